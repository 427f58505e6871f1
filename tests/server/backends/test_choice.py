"""Which backend is tried when, what counts as running, and what happens when one fails."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from server.backends.choice import (
    Attempt,
    BackendChoice,
    list_attempts,
    load_backend,
    warm_up,
)
from server.backends.contract import Backend, BackendOptions, Logits, TokenIds
from server.backends.guard import GuardedBackend
from server.bundle import EMBEDDED_FOLDER, Bundle, read_bundle
from server.errors import (
    BackendFailedError,
    BackendUnavailableError,
    PluginError,
    UnknownBackendError,
)
from server.options import Options
from tests.fakes import FakeBackend, FakeCache, FakePlugins

REGISTERED = ("mine", "ort", "pytorch")


def names(attempts: Sequence[Attempt]) -> list[str]:
    return [f"{a.backend}:{a.device}" for a in attempts]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(EMBEDDED_FOLDER)


@pytest.fixture
def plugins() -> FakePlugins:
    """The built-ins replaced by fakes, so that nothing heavy is loaded."""
    plugins = FakePlugins()
    plugins.provide("backends", "ort", fake_on("cpu"))
    plugins.provide("backends", "pytorch", fake_on("cuda", "cpu"))
    return plugins


def fake_on(*devices: str) -> type[Backend]:
    """A backend that is available on these devices alone."""

    class OnSome(FakeBackend):
        @classmethod
        def load(cls, bundle: Bundle, options: BackendOptions) -> FakeBackend:
            if options.device not in devices:
                raise BackendUnavailableError(f"no {options.device} here")
            fake = super().load(bundle, options)
            fake.device_asked = options.device  # type: ignore[attr-defined]
            return fake

    return OnSome


def choose(bundle: Bundle, plugins: FakePlugins, **options: object) -> BackendChoice:
    return BackendChoice.from_options(bundle, Options(**options), plugins)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        ("auto", "auto", ["ort:cuda", "ort:cpu", "pytorch:cuda", "pytorch:cpu"]),
        ("auto", "cpu", ["ort:cpu", "pytorch:cpu"]),
        ("auto", "cuda", ["ort:cuda", "pytorch:cuda", "ort:cpu", "pytorch:cpu"]),
        ("ort", "auto", ["ort:cuda", "ort:cpu", "pytorch:cuda", "pytorch:cpu"]),
        ("pytorch", "auto", ["pytorch:cuda", "pytorch:cpu", "ort:cuda", "ort:cpu"]),
        ("pytorch", "cpu", ["pytorch:cpu", "ort:cpu"]),
        ("mine", "auto", ["mine:auto", "ort:cuda", "ort:cpu", "pytorch:cuda", "pytorch:cpu"]),
        ("mine", "cpu", ["mine:cpu", "ort:cpu", "pytorch:cpu"]),
    ],
)
def test_what_was_asked_for_comes_first(backend: str, device: str, expected: list[str]) -> None:
    assert names(list_attempts(backend, device, REGISTERED)) == expected


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(UnknownBackendError, match=r"no backend 'otr'; did you mean 'ort'"):
        list_attempts("otr", "auto", REGISTERED)
    with pytest.raises(UnknownBackendError, match=r"no device 'cdua'; did you mean 'cuda'"):
        list_attempts("auto", "cdua", REGISTERED)


def test_the_first_that_loads_runs_and_says_what_was_skipped(
    bundle: Bundle, plugins: FakePlugins
) -> None:
    choice = choose(bundle, plugins)
    backend = choice.current()
    assert choice.current() is backend
    assert [str(s) for s in choice.skipped] == ["ort on cuda: no cuda here"]
    assert backend.info.details["skipped"] == "ort on cuda: no cuda here"


def test_a_backend_that_fails_is_closed_and_replaced(bundle: Bundle, plugins: FakePlugins) -> None:
    choice = choose(bundle, plugins)
    first = choice.current()
    choice.fail(BackendFailedError("device lost"))
    second = choice.current()
    assert second is not first
    assert first.is_closed  # type: ignore[attr-defined]
    assert second.device_asked == "cuda"  # type: ignore[attr-defined]
    assert "ort on cpu: it failed while serving: device lost" in second.info.details["skipped"]


def test_when_the_last_one_fails_the_error_says_so(bundle: Bundle, plugins: FakePlugins) -> None:
    choice = choose(bundle, plugins, device="cpu")
    choice.current()
    choice.fail(BackendFailedError("one"))
    choice.current()
    with pytest.raises(BackendUnavailableError, match="the last backend failed: two"):
        choice.fail(BackendFailedError("two"))
    with pytest.raises(BackendUnavailableError, match=r"ort on cpu.*one.*pytorch on cpu.*two"):
        choice.current()


def test_after_closing_there_is_no_backend(bundle: Bundle, plugins: FakePlugins) -> None:
    choice = choose(bundle, plugins)
    backend = choice.current()
    choice.close()
    assert backend.is_closed  # type: ignore[attr-defined]
    with pytest.raises(BackendUnavailableError):
        choice.current()


def test_a_backend_that_is_switched_off_is_skipped(bundle: Bundle) -> None:
    options = Options(blocked_plugins=("ort", "pytorch"))
    with pytest.raises(BackendUnavailableError, match="switched off by blockedPlugins"):
        BackendChoice.from_options(bundle, options).current()


def test_a_plugin_that_is_no_backend_is_blocked_and_named(
    bundle: Bundle, plugins: FakePlugins
) -> None:
    plugins.provide("backends", "ort", dict)
    choice = choose(bundle, plugins)
    assert choice.current().info.name == "fake"
    assert "plugin 'ort' of foretype.backends is no Backend" in str(choice.skipped[0])
    assert {s.name: s.blocked for s in plugins.states()}["ort"] == "it is no subclass of Backend"


def test_a_plugin_that_raises_while_loading_is_blocked_and_named(
    bundle: Bundle, plugins: FakePlugins
) -> None:
    class Raises(FakeBackend):
        @classmethod
        def load(cls, bundle: Bundle, options: BackendOptions) -> FakeBackend:
            raise KeyError("weights")

    plugins.provide("backends", "ort", Raises)
    with pytest.raises(PluginError, match="KeyError"):
        load_backend(Attempt("ort", "cpu"), bundle, BackendOptions(), plugins)
    with pytest.raises(PluginError, match="is blocked"):
        plugins.load("backends", "ort")


def test_a_backend_that_loses_its_past_does_not_pass_the_warm_up() -> None:
    """A KV buffer that was copied to the device when it was bound stayed empty for ever."""

    class Forgetful(FakeBackend):
        def forward(self, token_ids: TokenIds, cache: FakeCache, n_logits: int = 1) -> Logits:
            logits = super().forward(token_ids, self.new_cache(), n_logits)
            cache.token_ids.extend(token_ids)
            return logits

    def echo(tokens: tuple[int, ...]) -> int:
        return 100 + len(tokens)

    warm_up(FakeBackend(echo))
    with pytest.raises(BackendFailedError, match="does not keep its KV cache"):
        warm_up(Forgetful(echo))


def test_logits_of_another_shape_do_not_pass_the_warm_up() -> None:
    class Flat(FakeBackend):
        def forward(self, token_ids: TokenIds, cache: FakeCache, n_logits: int = 1) -> Logits:
            return super().forward(token_ids, cache, n_logits)[0]

    with pytest.raises(BackendFailedError, match="shape"):
        warm_up(Flat())


def test_what_a_stranger_raises_becomes_a_failure_of_the_backend() -> None:
    class Raises(FakeBackend):
        def forward(self, token_ids: TokenIds, cache: FakeCache, n_logits: int = 1) -> Logits:
            raise ZeroDivisionError("mine")

        def close(self) -> None:
            raise OSError("late")

    backend = GuardedBackend(Raises())
    cache = backend.new_cache()
    with pytest.raises(BackendFailedError, match="fake raised ZeroDivisionError: mine"):
        backend.forward([1], cache)
    with pytest.raises(ValueError, match="at least one"):
        backend.forward([], cache)
    backend.close()


def test_a_strangers_logits_must_be_finite() -> None:
    backend = GuardedBackend(FakeBackend(lambda tokens: np.full(260, np.nan)))
    with pytest.raises(BackendFailedError, match="not finite"):
        backend.forward([1], backend.new_cache())


def test_a_real_session_that_raises_is_replaced_by_pytorch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = BackendChoice.from_options(bundle, Options(device="cpu", threads=1))
    ort = choice.current()
    cache = ort.new_cache()
    wanted = int(ort.forward([40, 41, 42], cache)[-1].argmax())
    monkeypatch.setattr(ort._graph, "run", raises_like_onnxruntime)  # type: ignore[attr-defined]
    with pytest.raises(BackendFailedError, match="onnxruntime failed on CPUExecutionProvider") as e:
        ort.forward([43], cache)
    choice.fail(e.value)
    pytorch = choice.current()
    assert pytorch.info.name == "pytorch"
    assert int(pytorch.forward([40, 41, 42], pytorch.new_cache())[-1].argmax()) == wanted


def test_a_bundle_that_was_replaced_while_it_was_served_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(EMBEDDED_FOLDER, folder)
    choice = BackendChoice.from_options(read_bundle(folder), Options(device="cpu", threads=1))
    choice.current()
    weights = folder / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    choice.fail(BackendFailedError("device lost"))
    with pytest.raises(BackendUnavailableError, match="it was altered"):
        choice.current()


def test_what_comes_after_a_backend_that_hangs_leaves_its_choice_alone(bundle: Bundle) -> None:
    choice = BackendChoice.from_options(bundle, Options(device="cpu", threads=1))
    before = choice.current()
    rest = choice.without_present("it hangs")
    assert [str(skipped) for skipped in rest.skipped] == ["ort on cpu: it hangs"]
    assert rest.current().info.name == "pytorch"
    assert choice.current() is before
    assert choice.skipped == []


def raises_like_onnxruntime(*_: object) -> Logits:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    raise Fail("out of memory")


def test_importing_the_choice_loads_no_network() -> None:
    script = (
        "import sys, server.backends.choice\n"
        "print(*sorted({'torch', 'transformers', 'onnxruntime'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == ""
