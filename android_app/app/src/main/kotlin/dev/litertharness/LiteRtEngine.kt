package dev.litertharness

import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.CompiledModel.GpuOptions
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import com.google.ai.edge.litert.TensorType
import com.google.ai.edge.litert.TensorType.ElementType
import dev.litertharness.protocol.Accelerator
import dev.litertharness.protocol.Backend
import dev.litertharness.protocol.Booleans
import dev.litertharness.protocol.Bytes
import dev.litertharness.protocol.Compiled
import dev.litertharness.protocol.DType
import dev.litertharness.protocol.Engine
import dev.litertharness.protocol.Fallback
import dev.litertharness.protocol.Feed
import dev.litertharness.protocol.Floats
import dev.litertharness.protocol.Ints
import dev.litertharness.protocol.Longs
import dev.litertharness.protocol.Options
import dev.litertharness.protocol.Payload
import dev.litertharness.protocol.Precision
import dev.litertharness.protocol.Priority
import dev.litertharness.protocol.Refusal
import dev.litertharness.protocol.Result
import dev.litertharness.protocol.Storage
import dev.litertharness.protocol.Wanted
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

private typealias LiteRtAccelerator = com.google.ai.edge.litert.Accelerator

/** LiteRT's CompiledModel: one accelerator, the CPU beside it only where asked for; an environment for each model. */
class LiteRtEngine : Engine {
    override fun compile(model: File, options: Options): Compiled = refusing {
        val environment = Environment.create()
        try {
            compile(model, options, environment)
        } catch (error: Exception) {
            environment.close()
            throw error
        }
    }

    private fun compile(model: File, options: Options, environment: Environment): Compiled {
        val accelerator =
            when (options.accelerator) {
                Accelerator.CPU -> LiteRtAccelerator.CPU
                // GPU without CPU, unless asked for: the runtime itself refuses a model that it cannot delegate whole.
                Accelerator.GPU -> LiteRtAccelerator.GPU
                Accelerator.NPU -> LiteRtAccelerator.NPU
            }
        // The Kotlin API adds the CPU to the NPU: without one, all would run there in silence.
        if (accelerator == LiteRtAccelerator.NPU && accelerator !in environment.getAvailableAccelerators()) {
            throw Refusal("this device has no accelerator 'npu'")
        }
        val shared = options.fallback == Fallback.CPU
        val chosen =
            if (shared) CompiledModel.Options(accelerator, LiteRtAccelerator.CPU)
            else CompiledModel.Options(accelerator)
        if (options.accelerator == Accelerator.CPU && options.threads > 0) {
            chosen.cpuOptions = CompiledModel.CpuOptions(numThreads = options.threads)
        }
        if (options.accelerator == Accelerator.GPU) chosen.gpuOptions = gpuOptions(options)
        val compiled = CompiledModel.create(model.path, chosen, environment)
        try {
            return LiteRtModel(compiled, environment, full = options.accelerator == Accelerator.GPU && !shared)
        } catch (error: LiteRtException) {
            compiled.close()
            throw error
        }
    }

    /** Only what was asked for: the runtime's defaults are its own. */
    private fun gpuOptions(options: Options): GpuOptions? =
        GpuOptions(
                precision =
                    when (options.precision) {
                        Precision.DEFAULT -> null
                        Precision.FP16 -> GpuOptions.Precision.FP16
                        Precision.FP32 -> GpuOptions.Precision.FP32
                        Precision.FP16_WITH_FP32_ACCUMULATION -> GpuOptions.Precision.FP16_WITH_FP32_ACCUM
                    },
                bufferStorageType =
                    when (options.storage) {
                        Storage.DEFAULT -> null
                        Storage.BUFFER -> GpuOptions.BufferStorageType.BUFFER
                        Storage.TEXTURE_2D -> GpuOptions.BufferStorageType.TEXTURE_2D
                    },
                backend =
                    when (options.backend) {
                        Backend.DEFAULT -> null
                        Backend.OPENCL -> GpuOptions.Backend.OPENCL
                        Backend.OPENGL -> GpuOptions.Backend.OPENGL
                    },
                priority =
                    when (options.priority) {
                        Priority.DEFAULT -> null
                        Priority.LOW -> GpuOptions.Priority.LOW
                        Priority.NORMAL -> GpuOptions.Priority.NORMAL
                        Priority.HIGH -> GpuOptions.Priority.HIGH
                    },
            )
            .takeIf { it != GpuOptions() }
}

/** The first signature of a compiled model. */
private class LiteRtModel(
    private val model: CompiledModel,
    private val environment: Environment,
    override val full: Boolean,
) : Compiled {
    private val inputs = model.createInputBuffers(0)
    private val outputs = model.createOutputBuffers(0)
    private val outputTypes = mutableMapOf<String, TensorType>()

    override fun prepare(inputs: List<Payload>): Feed = refusing {
        if (inputs.size != this.inputs.size) {
            throw Refusal("${inputs.size} inputs came for a model that takes ${this.inputs.size}")
        }
        val writes = inputs.zip(this.inputs) { payload, buffer -> write(payload, buffer) }
        Feed { refusing { writes.forEach { it() } } }
    }

    override fun run() = refusing { model.run(inputs, outputs, 0) }

    override fun read(output: Wanted): Result = refusing {
        if (output.position >= outputs.size) throw Refusal("the model has no output ${output.position}")
        val buffer = outputs[output.position]
        val type = outputTypes.getOrPut(output.name) { model.getOutputTensorType(output.name) }
        val shape = type.layout?.dimensions.orEmpty()
        fitsHeap(output.name, shape.fold(type.elementType.dtype.bytes.toLong()) { sum, size -> sum * size })
        val values =
            when (type.elementType) {
                ElementType.FLOAT -> Floats(buffer.readFloat())
                ElementType.INT -> Ints(buffer.readInt())
                ElementType.INT64 -> Longs(buffer.readLong())
                ElementType.INT8 -> Bytes(buffer.readInt8())
                ElementType.BOOLEAN -> Booleans(buffer.readBoolean())
            }
        if (values.size.toLong() != shape.fold(1L) { sum, size -> sum * size }) {
            throw Refusal("output '${output.name}' gave ${values.size} values for shape $shape")
        }
        Result(output.name, shape, values)
    }

    override fun release(output: Wanted) = outputs[output.position].close()

    override fun close() {
        (inputs + outputs).forEach(TensorBuffer::close)
        model.close()
        environment.close()
    }

    /** Converts a payload once; what is given copies it to its buffer. */
    private fun write(payload: Payload, buffer: TensorBuffer): () -> Unit {
        val type = model.getInputTensorType(payload.name)
        val shape = type.layout?.dimensions.orEmpty()
        val wanted = type.elementType.dtype
        // A shorter array would leave the rest of the buffer as it was.
        if (payload.dtype != wanted || payload.shape != shape.map(Int::toLong)) {
            throw Refusal(
                "input '${payload.name}' came as ${payload.dtype.wireName} ${payload.shape}, " +
                    "not ${wanted.wireName} $shape"
            )
        }
        val bytes = ByteBuffer.wrap(payload.data).order(ByteOrder.LITTLE_ENDIAN)
        val count = payload.data.size / wanted.bytes
        return when (type.elementType) {
            ElementType.FLOAT -> {
                val values = FloatArray(count).also { bytes.asFloatBuffer().get(it) }
                ({ buffer.writeFloat(values) })
            }
            ElementType.INT -> {
                val values = IntArray(count).also { bytes.asIntBuffer().get(it) }
                ({ buffer.writeInt(values) })
            }
            ElementType.INT64 -> {
                val values = LongArray(count).also { bytes.asLongBuffer().get(it) }
                ({ buffer.writeLong(values) })
            }
            ElementType.INT8 -> ({ buffer.writeInt8(payload.data) })
            ElementType.BOOLEAN -> {
                val values = BooleanArray(count) { payload.data[it] != 0.toByte() }
                ({ buffer.writeBoolean(values) })
            }
        }
    }
}

/** LiteRT's JNI takes an array of an output's size without a check: one that the heap cannot hold ends the app. */
private fun fitsHeap(name: String, bytes: Long) {
    val runtime = Runtime.getRuntime()
    fun free() = runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory()
    if (bytes > free()) System.gc()
    if (bytes > free()) {
        throw Refusal(
            "output '$name' has $bytes bytes, " +
                "and ${free()} of the ${runtime.maxMemory()} bytes of the app's heap are free"
        )
    }
}

private val ElementType.dtype: DType
    get() =
        when (this) {
            ElementType.FLOAT -> DType.FLOAT32
            ElementType.INT -> DType.INT32
            ElementType.INT64 -> DType.INT64
            ElementType.INT8 -> DType.INT8
            ElementType.BOOLEAN -> DType.BOOL
        }

/** The runtime's exceptions as refusals, in its own words. */
private fun <T> refusing(action: () -> T): T =
    try {
        action()
    } catch (error: LiteRtException) {
        throw Refusal(explain(error.message.orEmpty()))
    }

private fun explain(message: String): String =
    if ("Unsupported element type" in message) {
        "LiteRT's Kotlin API has buffers of float32, int32, int64, int8 and bool only ($message)"
    } else {
        message.ifEmpty { "the runtime gave no reason" }
    }
