"""The SAM 2.1 video tracker: five graphs, the loop around them, and what float16 does to it over time.

    frame --encode--> features --+-- attend (memory bank) --+
    clicks, or none -------------+--------------------------+--decode--> mask, pointer --memorize--> memory bank

`tracker` and `bank` are the loop, in numpy, on any `stages`: `onnx_stages` runs the exported graphs. `contract` names
them. `export`, `modules`, `upstream` and `reference` import torch and run in a `worker` process. `validate` compares
the loop with `transformers`; `show` is the only one that prints.
"""
