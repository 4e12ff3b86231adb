package dev.litertharness.protocol

import java.io.File

/** Compiles models. Throws [Refusal] with the runtime's own sentence where it will not. */
fun interface Engine {
    fun compile(model: File, options: Options): Compiled
}

/** A compiled model with its buffers. Every method may throw [Refusal]. */
interface Compiled : AutoCloseable {
    /** Whether the accelerator took the whole model. */
    val full: Boolean

    /** Checks and converts the inputs, which come in the runtime's order; what is given writes them before each run. */
    fun prepare(inputs: List<Payload>): Feed

    /** One inference. It may return when the work is only enqueued. */
    fun run()

    /** The values of an output, once the run is done. */
    fun read(output: Wanted): Result

    /** Frees an output's buffer, when no further run will come. */
    fun release(output: Wanted)
}

/** Inputs ready to be copied to their buffers. */
fun interface Feed {
    fun write()
}
