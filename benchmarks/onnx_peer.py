"""One op of ONNX as a peer: a model of a single node, its arrays all inputs, run by ONNX Runtime on bound memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dlcore as dl

Array = np.ndarray[Any, Any]
OPSET = 20


def onnx_peer(op: str, arrays: list[Array], **attrs: Any) -> Callable[[], Callable[[], Any]]:
    def build() -> Callable[[], Any]:
        import onnxruntime
        from onnx import TensorProto, helper

        kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
        names = [f"x{i}" for i in range(len(arrays))]
        inputs = [
            helper.make_tensor_value_info(n, kinds[a.dtype], a.shape) for n, a in zip(names, arrays, strict=True)
        ]
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([helper.make_node(op, names, ["y"], **attrs)], op, inputs, [output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = dl.num_threads()
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )  # fmt: skip
        binding = session.io_binding()
        for name, array in zip(names, arrays, strict=True):
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        binding.bind_output("y")

        def call() -> Any:
            session.run_with_iobinding(binding)
            return binding.get_outputs()[0]

        return call

    return build
