# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What is done for each token, compiled: the same as in `search` and `mixture`.

Between two passes of the network the processor's caches are full of its weights. There each of the
many steps that numpy takes costs half as much again as in a loop of its own; here they are few.

No index is checked when it is used, so what would lie outside of an array is refused where it comes in.
"""

from libc.math cimport M_LN2 as LOG_2
from libc.math cimport exp, log, log1p
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from cython cimport final

import numpy as np

from server.decoding.memory.coefficients import FEATURES
from server.decoding.memory.index import MAX_SEGMENTS
from server.decoding.memory.mixture import LEAST_LOGPROB, MOST_WEIGHT
from server.decoding.memory.search import (
    MAX_PLACES,
    MAX_SCANNED,
    MIN_MATCH_TOKENS,
    Match,
    Nearness,
)
from server.decoding.memory.stream import MAX_MATCH_TOKENS

cdef Py_ssize_t max_places = MAX_PLACES
cdef Py_ssize_t max_scanned = MAX_SCANNED
cdef Py_ssize_t max_match_tokens = MAX_MATCH_TOKENS
cdef int64_t min_match_tokens = MIN_MATCH_TOKENS
cdef double least_logprob = LEAST_LOGPROB
cdef double most_weight = MOST_WEIGHT

if len(Nearness) != N_NEARNESS or len(FEATURES) != N_FEATURES:
    raise ImportError("compiled for another mixture")
# A document and the workspace's segments are looked up together.
n_most = max(MAX_SCANNED, 2 * MAX_PLACES, (1 + MAX_SEGMENTS) * MAX_PLACES)
if n_most > MOST_PLACES or 4 * MAX_MATCH_TOKENS > MOST_KEY_BYTES:
    raise ImportError("compiled for other limits")

cdef enum:  # Rows of what is found.
    LENGTH
    NEXT_ID
    NEARNESS
    PLACE
    N_ROWS

cdef enum:
    MOST_PLACES = 128  # Of all sources together, and looked at in one.
    MOST_KEY_BYTES = 256
    N_NEARNESS = 5
    N_FEATURES = 13

cdef struct Key:  # The end of a context as streams store it: the last token first.
    unsigned char[MOST_KEY_BYTES] data
    Py_ssize_t n_bytes

cdef struct Agreeing:  # Places of one source that agree and may speak.
    int64_t[N_ROWS][MOST_PLACES] rows
    Py_ssize_t n


@final
cdef class Found:
    """As `search.Found`; an array is made when it is asked for."""

    cdef readonly Py_ssize_t n_matches
    cdef readonly int64_t longest
    cdef readonly list starts
    cdef int64_t[N_ROWS][MOST_PLACES] rows

    def __cinit__(self):
        self.starts = []

    @property
    def lengths(self):
        return self._row(LENGTH)

    @property
    def next_ids(self):
        return self._row(NEXT_ID)

    @property
    def nearness(self):
        return self._row(NEARNESS)

    @property
    def places(self):
        return self._row(PLACE)

    def match(self, Py_ssize_t number):
        if not 0 <= number < self.n_matches:
            raise IndexError(number)
        return Match(
            self.rows[LENGTH][number],
            self.rows[NEXT_ID][number],
            self.rows[NEARNESS][number],
            self.rows[PLACE][number],
        )

    def longest_with(self, int64_t next_id, Py_ssize_t start):
        cdef int64_t longest = 0
        cdef Py_ssize_t best = 0, i
        for i in range(start, self.n_matches):
            if self.rows[NEXT_ID][i] == next_id and self.rows[LENGTH][i] > longest:
                best, longest = i, self.rows[LENGTH][i]
        return best if longest else None

    cdef _row(self, Py_ssize_t row):
        if not self.n_matches:
            return np.zeros(0, np.int64)
        return np.array(<int64_t[: self.n_matches]> &self.rows[row][0])

    cdef int take(self, const Agreeing* agreeing) except -1:
        """Add the longest of a source's places; longest first if some are left out."""
        cdef Py_ssize_t end = self.n_matches + max_places, i
        cdef int64_t length, longest = 0
        self.starts.append(self.n_matches)
        for i in range(agreeing.n):
            longest = max(longest, agreeing.rows[LENGTH][i])
        self.longest = max(self.longest, longest)
        if agreeing.n <= max_places:
            for i in range(agreeing.n):
                self.add(agreeing, i)
            return 0
        for length in range(longest, min_match_tokens - 1, -1):
            for i in range(agreeing.n):
                if agreeing.rows[LENGTH][i] == length:
                    self.add(agreeing, i)
                    if self.n_matches == end:
                        return 0
        return 0

    cdef void add(self, const Agreeing* agreeing, Py_ssize_t i) noexcept:
        cdef Py_ssize_t row
        for row in range(N_ROWS):
            self.rows[row][self.n_matches] = agreeing.rows[row][i]
        self.n_matches += 1


@final
cdef class _Source:
    """The arrays of one `search.Source`."""

    cdef const unsigned char[::1] tokens
    cdef const int32_t[::1] order
    cdef const int64_t[::1] starts
    cdef const int64_t[::1] nearness
    cdef Py_ssize_t n_tokens
    cdef Py_ssize_t n_bytes
    cdef int64_t separator

    def __init__(self, source):
        stream = source.searched.stream
        self.tokens = stream.tokens.view(np.uint8)
        self.order = source.searched.order
        self.starts = stream.starts
        self.nearness = source.nearness
        self.n_tokens = stream.n_tokens
        self.n_bytes = stream.width.n_bytes
        self.separator = stream.width.separator
        if self.nearness.shape[0] != self.starts.shape[0]:
            raise ValueError("every text needs its nearness")
        if source.nearness.max(initial=0) >= N_NEARNESS:
            raise ValueError("no text is farther than the rest")

    cdef int64_t token_at(self, Py_ssize_t place) noexcept:
        """Return the token that stands at a place: just below it, its highest byte first."""
        cdef int64_t token_id = 0
        cdef Py_ssize_t i
        for i in range((place - 1) * self.n_bytes, place * self.n_bytes):
            token_id = token_id << 8 | self.tokens[i]
        return token_id

    cdef int64_t nearness_at(self, Py_ssize_t place) noexcept:
        """Return how near the text is that a place lies in."""
        cdef int64_t number = self.n_tokens - 1 - place  # Streams are stored backwards.
        cdef Py_ssize_t text = 0, n = self.starts.shape[0], half
        while n > 1:  # Without a branch that could be foretold wrongly.
            half = n // 2
            text = text + half if self.starts[text + half] <= number else text
            n -= half
        return self.nearness[text]

    cdef int64_t agreement(self, Py_ssize_t place, const Key* key) noexcept:
        """Return how many tokens before a place agree with a key."""
        cdef const unsigned char* context = &self.tokens[place * self.n_bytes]
        cdef Py_ssize_t i = 0
        while i < key.n_bytes and context[i] == key.data[i]:
            i += 1
        return i // self.n_bytes

    cdef Py_ssize_t scan(self, const Key* key, int64_t* places) noexcept:
        """Write down the first places that agree in two tokens; return their number."""
        cdef const unsigned char* at = &self.tokens[0]
        cdef uint64_t mask = 0, wanted = 0, word
        cdef Py_ssize_t n_found = 0, place
        memset(&mask, 0xFF, 2 * self.n_bytes)
        memcpy(&wanted, key.data, 2 * self.n_bytes)
        for place in range(self.n_tokens):
            memcpy(&word, at, sizeof(word))  # What fills a stream up is longer than a word.
            if word & mask == wanted:
                places[n_found] = place
                n_found += 1
                if n_found == max_scanned:
                    break
            at += self.n_bytes
        return n_found

    cdef Py_ssize_t seek(self, const Key* key, int64_t* places) noexcept:
        """Write down the places that stand around a key in the order; return their number."""
        cdef Py_ssize_t n = self.order.shape[0], low = 0, high = n, middle, i
        while low < high:
            middle = (low + high) // 2
            if memcmp(&self.tokens[self.order[middle] * self.n_bytes], key.data, key.n_bytes) < 0:
                low = middle + 1
            else:
                high = middle
        middle = low
        low = max(0, middle - max_places)
        high = min(n, middle + max_places)
        for i in range(low, high):
            places[i - low] = self.order[i]
        return high - low


@final
cdef class Search:
    """As `search.Search`."""

    cdef list _sources
    cdef Py_ssize_t _n_bytes

    def __init__(self, sources):
        if len(sources) * max_places > MOST_PLACES:
            raise ValueError(f"{len(sources)} sources are too many")
        self._sources = [_Source(source) for source in sources]
        self._n_bytes = sources[0].searched.stream.width.n_bytes

    def find(self, context):
        """As `search.Search.find`."""
        cdef Key key
        cdef Agreeing agreeing
        cdef Found found = Found()
        self._write_key(context, &key)
        for source in self._sources:
            look(<_Source> source, &key, &agreeing)
            found.take(&agreeing)
        return found

    cdef int _write_key(self, context, Key* key) except -1:
        cdef Py_ssize_t n_tokens = len(context), n = min(n_tokens, max_match_tokens), i, byte
        cdef int64_t token_id
        for i in range(n):
            token_id = context[n_tokens - 1 - i]
            for byte in range(self._n_bytes):
                key.data[(i + 1) * self._n_bytes - 1 - byte] = token_id >> 8 * byte & 0xFF
        key.n_bytes = n * self._n_bytes
        return 0


cdef void look(_Source source, const Key* key, Agreeing* agreeing) noexcept:
    """Find the places of a source that agree in enough tokens and may speak."""
    cdef int64_t[MOST_PLACES] places
    cdef int64_t place, length, next_id, nearness
    cdef Py_ssize_t n_near, i, n = 0
    n_near = source.scan(key, places) if source.order is None else source.seek(key, places)
    for i in range(n_near):
        place = places[i]
        length = source.agreement(place, key)
        if length < min_match_tokens:
            continue
        next_id = source.token_at(place)
        nearness = source.nearness_at(place)
        if next_id == source.separator or nearness < 0:
            continue
        agreeing.rows[LENGTH][n] = length
        agreeing.rows[NEXT_ID][n] = next_id
        agreeing.rows[NEARNESS][n] = nearness
        agreeing.rows[PLACE][n] = place
        n += 1
    agreeing.n = n


cdef struct Votes:  # As `mixture.Votes`, not yet divided by the sum of all weights.
    int64_t ids[MOST_PLACES]
    double weights[MOST_PLACES]
    Py_ssize_t n_ids
    Py_ssize_t top
    double by_nearness[N_NEARNESS]
    double total


@final
cdef class Mixer:
    """As `mixture.Mixer`."""

    cdef const double[:, ::1] _table
    cdef const double[::1] _weights

    def __init__(self, coefficients):
        self._table = coefficients.vote_table  # By all that a length and a nearness can be.
        self._weights = np.array(coefficients.weight)

    def mix(self, Found places, const float[::1] log_probs):
        """As `mixture.Mixer.mix`."""
        cdef Votes votes
        cdef Py_ssize_t n_vocab = log_probs.shape[0], i
        self._count(places, &votes)
        for i in range(votes.n_ids):
            if votes.ids[i] >= n_vocab:
                raise IndexError(f"token {votes.ids[i]} of {n_vocab}")
        cdef double weight = self._weight(&votes, places.longest, log_probs)
        if weight == 0:
            return log_probs.base, 0.0
        mixed = np.empty(n_vocab, np.float32)
        cdef float[::1] row = mixed
        cdef float rest = <float> log1p(-weight)
        for i in range(n_vocab):
            row[i] = log_probs[i] + rest
        for i in range(votes.n_ids):
            row[votes.ids[i]] = <float> log_add_exp(
                row[votes.ids[i]], log(weight) + log(votes.weights[i] / votes.total)
            )
        return mixed, weight

    def likeliest(self, Found places):
        """As `mixture.Mixer.likeliest`."""
        cdef Votes votes
        self._count(places, &votes)
        return votes.ids[votes.top]

    cdef void _count(self, Found places, Votes* votes) noexcept:
        """Weigh the places and add up what they say."""
        cdef int64_t next_id, length, nearness
        cdef Py_ssize_t i, k
        cdef double weight
        memset(votes, 0, sizeof(Votes))
        for i in range(places.n_matches):
            next_id = places.rows[NEXT_ID][i]
            length = places.rows[LENGTH][i]
            nearness = places.rows[NEARNESS][i]
            weight = self._table[nearness, length]
            for k in range(votes.n_ids):
                if votes.ids[k] == next_id:
                    break
            else:
                k = votes.n_ids
                votes.ids[k] = next_id
                votes.n_ids += 1
            votes.weights[k] += weight
            votes.by_nearness[nearness] += weight
            votes.total += weight
        for k in range(votes.n_ids):
            if votes.weights[k] > votes.weights[votes.top]:
                votes.top = k

    cdef double _weight(
        self, const Votes* votes, int64_t longest, const float[::1] log_probs
    ) noexcept:
        """Return w, of `mixture.features` in their order."""
        cdef double log_length = log(<double> longest)
        cdef double agreement = votes.weights[votes.top] / votes.total
        cdef double score = 0
        cdef double[N_FEATURES] features
        cdef Py_ssize_t i
        features[:] = [
            1.0,
            log_length,
            longest / <double> max_match_tokens,
            log1p(votes.total),
            agreement,
            votes.n_ids == 1,
            agreement * log_length,
            votes.by_nearness[0] / votes.total,
            votes.by_nearness[1] / votes.total,
            votes.by_nearness[2] / votes.total,
            votes.by_nearness[3] / votes.total,
            max(highest(log_probs), least_logprob),
            max(log_probs[votes.ids[votes.top]], least_logprob),
        ]
        for i in range(N_FEATURES):
            score += self._weights[i] * features[i]
        return min(most_weight, 1 / (1 + exp(-score))) if score > -700 else 0.0


cdef float highest(const float[::1] values) noexcept:
    """Return the highest of some values: of four rows at once, for each step waits for the last."""
    cdef float a = values[0], b = a, c = a, d = a
    cdef Py_ssize_t n = values.shape[0], i
    for i in range(0, n - 3, 4):
        a = max(a, values[i])
        b = max(b, values[i + 1])
        c = max(c, values[i + 2])
        d = max(d, values[i + 3])
    for i in range(n - n % 4, n):
        a = max(a, values[i])
    return max(max(a, b), max(c, d))


cdef double log_add_exp(double one, double other) noexcept:
    """Return log(exp(one) + exp(other)); -inf stands for 0."""
    if one == other:
        return one + LOG_2
    return max(one, other) + log1p(exp(-abs(one - other)))
