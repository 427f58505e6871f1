"""The onnxruntime backend against bad graphs, missing devices and its own errors."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from server.backends import ort_session
from server.backends.contract import BackendOptions
from server.backends.ort import OrtBackend
from server.backends.ort_graph import refuse_external_data
from server.backends.ort_session import default_n_threads
from server.bundle import Bundle
from server.errors import BackendFailedError, BackendUnavailableError, BundleError
from tests.server.backends.conftest import MakeBundle

CPU = BackendOptions(device="cpu", n_threads=1)


def edit_graph(bundle: Bundle, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(bundle.model_path)
    edit(model)
    onnx.save(model, bundle.model_path)


def point_outside(model: onnx.ModelProto, location: str = "../secret") -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "weights.bin"])
def test_weights_in_another_file_are_refused(own_bundle: Bundle, location: str) -> None:
    edit_graph(own_bundle, lambda model: point_outside(model, location))
    with pytest.raises(BundleError, match="keeps weights in another file"):
        OrtBackend.load(own_bundle, CPU)


def test_a_length_spelled_the_long_way_hides_nothing(tmp_path: Path) -> None:
    """Protobuf reads 88 00 and 88 80 00 as the length 8, too."""
    path = tmp_path / "graph"
    for length in (b"\x08", b"\x88\x00", b"\x88\x80\x00"):
        path.write_bytes(b"\x0a" + length + b"location")
        with pytest.raises(BundleError, match="another file"):
            refuse_external_data(path)
    path.write_bytes(b"a relocation and an allocation\x0b location")
    refuse_external_data(path)


@pytest.mark.parametrize("damage", [b"", b"no graph at all"])
def test_a_file_that_is_no_graph_is_an_error_of_ours(own_bundle: Bundle, damage: bytes) -> None:
    own_bundle.model_path.write_bytes(damage)
    with pytest.raises((BundleError, BackendFailedError), match=r"model\.onnx"):
        OrtBackend.load(own_bundle, CPU)


def test_a_truncated_graph_is_an_error_of_ours(own_bundle: Bundle) -> None:
    data = own_bundle.model_path.read_bytes()
    own_bundle.model_path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match="ends inside a field"):
        OrtBackend.load(own_bundle, CPU)


def test_tensors_that_the_manifest_does_not_name_are_named(own_bundle: Bundle) -> None:
    names = replace(own_bundle.manifest.tensors, seqlens_k="lengths")
    bundle = replace(own_bundle, manifest=replace(own_bundle.manifest, tensors=names))
    with pytest.raises(BundleError, match="disagree about the tensors lengths, seqlens_k"):
        OrtBackend.load(bundle, CPU)


def test_a_manifest_is_no_format_string(own_bundle: Bundle) -> None:
    names = replace(own_bundle.manifest.tensors, past_key="{layer:>999999999}")
    bundle = replace(own_bundle, manifest=replace(own_bundle.manifest, tensors=names))
    with pytest.raises(BundleError, match="disagree about the tensors"):
        OrtBackend.load(bundle, CPU)


def test_wrong_sizes_fail_as_our_error(own_bundle: Bundle) -> None:
    spec = replace(own_bundle.manifest.spec, n_head=2, n_kv_head=2)
    bundle = replace(own_bundle, manifest=replace(own_bundle.manifest, spec=spec))
    backend = OrtBackend.load(bundle, CPU)
    with pytest.raises(BackendFailedError, match="onnxruntime failed on CPUExecutionProvider"):
        backend.forward([1, 2], backend.new_cache())


def test_weights_that_are_no_numbers_are_a_failure(own_bundle: Bundle) -> None:
    def poison(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == "ln_f.bias":
                shape = tuple(tensor.dims)
                values = np.full(shape, np.nan, np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    edit_graph(own_bundle, poison)
    backend = OrtBackend.load(own_bundle, CPU)
    with pytest.raises(BackendFailedError, match="not finite"):
        backend.forward([1, 2], backend.new_cache())
    with pytest.raises(BackendFailedError, match="not finite"):
        backend.predict([1, 2], backend.new_cache())


@pytest.mark.parametrize("layout", ["fused", "portable"])
def test_the_past_is_never_copied_to_numpy_while_decoding(
    make_bundle: MakeBundle, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    backend = OrtBackend.load(make_bundle("gpt2", layout), CPU)
    cache = backend.new_cache()
    backend.predict([1, 2, 3], cache)
    copies = []
    monkeypatch.setattr(onnxruntime.OrtValue, "numpy", lambda value: copies.append(value))
    before = [value.data_ptr() for value in getattr(cache, "buffers", {}).values()]
    for token in range(8):
        backend.predict([token], cache)
    assert copies == []
    assert [value.data_ptr() for value in getattr(cache, "buffers", {}).values()] == before


def test_cuda_without_a_driver_says_what_is_missing(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_session, "DRIVERS", {"linux": "libno-such-driver.so"})
    with pytest.raises(BackendUnavailableError, match="no NVIDIA driver on this machine"):
        OrtBackend.load(make_bundle(), BackendOptions(device="cuda"))
    assert OrtBackend.load(make_bundle(), BackendOptions()).info.device == "cpu"


def test_cuda_with_an_fp32_cache_says_how_to_export(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_session, "DRIVERS", {"linux": "libc.so.6"})
    with pytest.raises(BackendUnavailableError, match="--dtype fp16 --device cuda"):
        OrtBackend.load(make_bundle(), BackendOptions(device="cuda"))


def test_a_cuda_provider_that_does_not_load_says_what_to_install(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Onnxruntime prints its own fallback to stdout, which belongs to the protocol."""
    monkeypatch.setattr(ort_session, "DRIVERS", {"linux": "libc.so.6"})
    with pytest.raises(BackendUnavailableError, match=r"install foretype\[cuda\]"):
        OrtBackend.load(make_bundle("gpt2", "portable"), BackendOptions(device="cuda"))
    assert capfd.readouterr().out == ""


def test_without_onnxruntime_the_message_says_what_to_install(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match="install foretype again"):
        OrtBackend.load(bundle, CPU)


def test_every_exception_of_onnxruntime_is_translated() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = ort_session.ort_errors()
    for name in ("Fail", "InvalidArgument", "RuntimeException", "NoSuchFile", "EPFail"):
        assert issubclass(getattr(state, name), errors)


def test_what_runs_is_told(make_bundle: MakeBundle) -> None:
    info = OrtBackend.load(make_bundle(), BackendOptions(device="cpu", n_threads=3)).info
    assert (info.name, info.device, info.provider) == ("ort", "cpu", "CPUExecutionProvider")
    assert info.details["threads"] == "3"
    assert info.details["spinning"] == "20 us"
    assert default_n_threads() >= 1


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        ("1.31.1", BackendOptions(), {"allow_spinning": "1", "spin_duration_us": "20"}),
        ("1.31.1", BackendOptions(spin_us=0), {"allow_spinning": "0"}),
        ("1.31.1", BackendOptions(spinning=True), {"allow_spinning": "1"}),
        ("1.23.0", BackendOptions(), {"allow_spinning": "0"}),
        ("1.23.0", BackendOptions(spinning=True), {"allow_spinning": "1"}),
    ],
)
def test_threads_never_spin_without_end_unless_told(
    version: str,
    options: BackendOptions,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    make_bundle: MakeBundle,
) -> None:
    """An older onnxruntime ignores `spin_duration_us` and would spin on."""
    import onnxruntime

    entries: dict[str, str] = {}

    class Recorded(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "__version__", version)
    monkeypatch.setattr(onnxruntime, "SessionOptions", Recorded)
    OrtBackend.load(make_bundle(), replace(options, device="cpu", n_threads=1))
    prefix = "session.intra_op."
    found = {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}
    assert found == expected


def test_loading_and_running_write_nothing_to_stdout(make_bundle: MakeBundle) -> None:
    script = (
        "import sys; from pathlib import Path; from server.bundle import read_bundle\n"
        "from server.backends.contract import BackendOptions\n"
        "from server.backends.ort import OrtBackend\n"
        "from server.backends.pytorch import PyTorchBackend\n"
        "bundle = read_bundle(Path(sys.argv[1]))\n"
        "for kind in (OrtBackend, PyTorchBackend):\n"
        "    backend = kind.load(bundle, BackendOptions(device='cpu', n_threads=1))\n"
        "    backend.forward([1, 2], backend.new_cache())\n"
        "    backend.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(make_bundle().folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert (done.stdout, done.stderr) == ("", "")
