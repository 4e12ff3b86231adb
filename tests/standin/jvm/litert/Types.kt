/** LiteRT's Kotlin API, as far as the app uses it, over the C API of the wheel's `libLiteRt.so`. */
package com.google.ai.edge.litert

enum class Accelerator(val value: Int) {
    NONE(0),
    CPU(1),
    GPU(2),
    NPU(3),
}

class LiteRtException(val status: Int, message: String) : Exception(message)

data class TensorType(val elementType: ElementType, val layout: Layout? = null) {
    enum class ElementType {
        INT,
        FLOAT,
        INT8,
        BOOLEAN,
        INT64,
    }

    data class Layout(val dimensions: List<Int>)
}
