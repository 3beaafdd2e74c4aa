"""Child process of `edge.qnn`: compiles with, reads with and runs on Qualcomm's libraries.

Called as `qnn_worker.py REQUEST ANSWER`: a JSON text and the file that the JSON answer goes to.
Imports nothing of drivelake, so it runs from any folder.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROVIDER = "QNNExecutionProvider"
_COMPATIBILITY = f"ep_compatibility_info.{_PROVIDER}"
_ERROR_ONLY = 3
# QnnSystemInterface.h: providers[0] is {u32 id, char* name, u32 version[3], functions…}
_CREATE, _GET_INFO, _FREE = 4, 5, 7
# QnnSystemContext.h, BinaryInfo version 3: places in 8-byte words
_INFO_VERSION = 3
_BUILD_ID, _BLOB_SIZE, _BLOB, _SOC_MODEL = 2, 15, 16, 17


def main() -> None:
    """Answer one request."""
    request, answer = json.loads(sys.argv[1]), Path(sys.argv[2])
    actions = {"compile": compile_model, "run": run_model}
    try:
        result = actions[request["action"]](request)
    except (RuntimeError, *_runtime_errors()) as error:
        result = {"error": str(error)}
    answer.write_text(json.dumps(result))


def _runtime_errors() -> tuple[type[BaseException], ...]:
    """What ONNX Runtime raises: exceptions without a base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "EPFail", "InvalidGraph", "InvalidProtobuf", "InvalidArgument", "NoSuchFile")
    return tuple(getattr(state, name) for name in (*names, "NotImplemented", "RuntimeException"))


def _options(request: Mapping[str, Any]) -> Any:
    """Session options that leave nothing to the CPU."""
    import onnxruntime
    import onnxruntime_qnn

    onnxruntime.register_execution_provider_library(_PROVIDER, onnxruntime_qnn.get_library_path())
    devices = [item for item in onnxruntime.get_ep_devices() if item.ep_name == _PROVIDER]
    if not devices:
        raise RuntimeError("ONNX Runtime lists no QNN device")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR_ONLY
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices(
        devices,
        {
            "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
            "soc_model": str(request["soc_model"]),
            "htp_arch": str(request["htp_arch"]),
            "htp_graph_finalization_optimization_mode": "3",
        },
    )
    return options


def compile_model(request: Mapping[str, Any]) -> dict[str, Any]:
    """Compile, and state what the binary says it is for."""
    import onnx
    import onnxruntime

    compiler = onnxruntime.ModelCompiler(
        _options(request), request["model"], embed_compiled_data_into_model=True
    )
    compiler.compile_to_file(request["out"])
    compiled = onnx.load(request["out"])
    operators = sorted({node.op_type for node in compiled.graph.node})
    if operators != ["EPContext"]:
        raise RuntimeError(f"operators {operators} were left outside of the binary")
    binaries = [
        attribute.s
        for node in compiled.graph.node
        for attribute in node.attribute
        if attribute.name == "ep_cache_context"
    ]
    if len(binaries) != 1:
        raise RuntimeError(f"{len(binaries)} binaries instead of one")
    properties = {item.key: item.value for item in compiled.metadata_props}
    return {
        **binary_information(binaries[0]),
        "binary_bytes": len(binaries[0]),
        "compatibility": properties.get(_COMPATIBILITY, ""),
    }


def binary_information(binary: bytes) -> dict[str, Any]:
    """SoC, architecture and build that a context binary states, read by libQnnSystem.

    Source: QAIRT 2.51, QnnSystemContext.h (QnnSystemContext_BinaryInfoV3_t).
    """
    import onnxruntime_qnn

    folder = Path(onnxruntime_qnn.LIB_DIR_FULL_PATH)
    library = ctypes.CDLL(str(folder / "libQnnSystem.so"))
    providers, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_uint32()
    library.QnnSystemInterface_getProviders.restype = ctypes.c_uint64
    failed = library.QnnSystemInterface_getProviders(ctypes.byref(providers), ctypes.byref(count))
    if failed or not count.value:
        raise RuntimeError(f"libQnnSystem has no interface (code {failed})")
    functions = _words(providers[0], 8)
    handle, info, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
    _call(functions[_CREATE], ctypes.byref(handle))
    try:
        buffer = ctypes.create_string_buffer(binary, len(binary))
        length = ctypes.c_uint64(len(binary))
        _call(
            functions[_GET_INFO],
            handle,
            buffer,
            length,
            ctypes.byref(info),
            ctypes.byref(size),
        )
        return _read_information(info.value)
    finally:
        _call(functions[_FREE], handle)


def _read_information(address: int | None) -> dict[str, Any]:
    words = _words(address, 18)
    version = words[0] & 0xFFFFFFFF
    if version != _INFO_VERSION or words[_BLOB_SIZE] & 0xFFFFFFFF != 8:
        raise RuntimeError(f"binary information of version {version} cannot be read")
    blob_version, architecture = (ctypes.c_uint32 * 2).from_address(words[_BLOB])
    if blob_version != 1:
        raise RuntimeError(f"hardware information of version {blob_version} cannot be read")
    return {
        "soc_model": words[_SOC_MODEL] & 0xFFFFFFFF,
        "htp_arch": architecture,
        "build": ctypes.string_at(words[_BUILD_ID]).decode(),
    }


def _words(address: int | None, count: int) -> list[int]:
    if not address:
        raise RuntimeError("libQnnSystem returned nothing")
    return list((ctypes.c_uint64 * count).from_address(address))


def _call(function: int, *arguments: Any) -> None:
    kinds = [
        ctypes.c_uint64 if isinstance(item, ctypes.c_uint64) else ctypes.c_void_p
        for item in arguments
    ]
    failed = ctypes.CFUNCTYPE(ctypes.c_uint64, *kinds)(function)(
        *(
            ctypes.cast(item, ctypes.c_void_p) if kind is ctypes.c_void_p else item
            for item, kind in zip(arguments, kinds, strict=True)
        )
    )
    if failed:
        raise RuntimeError(f"libQnnSystem failed with code {failed}")


def run_model(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a compiled model on the simulator, one image at a time."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(request["model"], _options(request))
    if session.get_providers()[0] != _PROVIDER:
        raise RuntimeError(f"the session runs on {session.get_providers()}")
    images = np.load(request["images"], allow_pickle=False)
    names = request["output_names"]
    rows = [
        session.run(names, {request["input_name"]: images[row : row + 1]})
        for row in range(len(images))
    ]
    arrays = {
        name: np.concatenate([outputs[place] for outputs in rows])
        for place, name in enumerate(names)
    }
    np.savez(request["out"], **arrays)
    return {"images": len(images)}


if __name__ == "__main__":
    main()
