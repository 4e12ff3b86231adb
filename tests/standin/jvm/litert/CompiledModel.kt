package com.google.ai.edge.litert

import android.util.Log
import com.sun.jna.Memory
import com.sun.jna.Pointer
import com.sun.jna.ptr.ByteByReference
import com.sun.jna.ptr.PointerByReference
import standin.setting

private const val TYPE_BYTES = 72L
private const val LAYOUT_BYTES = 68L
private const val LAYOUT_OFFSET = 4L

class CompiledModel
private constructor(
    private val environment: Environment,
    private val model: Pointer,
    private val compiled: Pointer,
    private val accelerators: Set<Accelerator>,
) : AutoCloseable {
    private val signature = handle("Failed to get signature") { litert.LiteRtGetModelSignature(model, 0, it) }
    private val inputNames: List<String>
    private val outputNames: List<String>

    init {
        val inputs = number("Failed to get inputs") { litert.LiteRtGetNumSignatureInputs(signature, it) }
        val outputs = number("Failed to get outputs") { litert.LiteRtGetNumSignatureOutputs(signature, it) }
        inputNames = names(inputs) { i, name -> litert.LiteRtGetSignatureInputName(signature, i, name) }
        outputNames = names(outputs) { i, name -> litert.LiteRtGetSignatureOutputName(signature, i, name) }
    }

    private fun names(count: Int, get: (Long, PointerByReference) -> Int): List<String> =
        List(count) { i -> handle("Failed to get a name") { get(i.toLong(), it) }.getString(0) }

    data class CpuOptions(val numThreads: Int? = null)

    data class GpuOptions(
        val precision: Precision? = null,
        val bufferStorageType: BufferStorageType? = null,
        val backend: Backend? = null,
        val priority: Priority? = null,
    ) {
        enum class Precision(val value: Int) {
            DEFAULT(0),
            FP16(1),
            FP32(2),
            FP16_WITH_FP32_ACCUM(3),
        }

        enum class BufferStorageType(val value: Int) {
            DEFAULT(0),
            BUFFER(1),
            TEXTURE_2D(2),
        }

        enum class Backend(val value: Int) {
            AUTOMATIC(0),
            OPENCL(1),
            OPENGL(3),
        }

        enum class Priority(val value: Int) {
            DEFAULT(0),
            LOW(1),
            NORMAL(2),
            HIGH(3),
        }
    }

    class Options(vararg accelerators: Accelerator) {
        internal val accelerators = setOf(*accelerators)
        var cpuOptions: CpuOptions? = null
        var gpuOptions: GpuOptions? = null
    }

    @JvmOverloads
    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> {
        require(signatureIndex == 0) { "the stand-in runs the first signature" }
        return List(inputNames.size) { i ->
            val message = "Failed to create input buffer"
            val type = inputType(i)
            litert.LiteRtGetCompiledModelInputTensorLayout(compiled, 0, i.toLong(), type.share(LAYOUT_OFFSET))
            val requirements =
                handle(message) { litert.LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, i.toLong(), it) }
            buffer(type, requirements, message)
        }
    }

    @JvmOverloads
    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> {
        require(signatureIndex == 0) { "the stand-in runs the first signature" }
        val layouts = Memory(LAYOUT_BYTES * maxOf(outputNames.size, 1))
        val count = outputNames.size.toLong()
        checked(
            litert.LiteRtGetCompiledModelOutputTensorLayouts(compiled, 0, count, layouts, 0),
            "Failed to get output layouts",
        )
        return List(outputNames.size) { i ->
            val message = "Failed to create output buffer"
            val type = outputType(i)
            val layout = layouts.getByteArray(LAYOUT_BYTES * i, LAYOUT_BYTES.toInt())
            type.write(LAYOUT_OFFSET, layout, 0, layout.size)
            val requirements =
                handle(message) { litert.LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, i.toLong(), it) }
            buffer(type, requirements, message)
        }
    }

    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0) {
        val ins = array(inputs.map { it.handle })
        val outs = array(outputs.map { it.handle })
        checked(
            litert.LiteRtRunCompiledModel(
                compiled,
                signatureIndex.toLong(),
                inputs.size.toLong(),
                ins,
                outputs.size.toLong(),
                outs,
            ),
            "Failed to invoke the compiled model",
        )
    }

    fun getInputTensorType(inputName: String, signature: String = ""): TensorType {
        require(signature.isEmpty()) { "the stand-in runs the first signature" }
        val index = inputNames.indexOf(inputName)
        if (index < 0) throw LiteRtException(NOT_FOUND, "Failed to find input: $inputName")
        return kotlinType(inputType(index))
    }

    fun getOutputTensorType(outputName: String, signature: String = ""): TensorType {
        require(signature.isEmpty()) { "the stand-in runs the first signature" }
        val index = outputNames.indexOf(outputName)
        if (index < 0) throw LiteRtException(NOT_FOUND, "Failed to find output: $outputName")
        return kotlinType(outputType(index))
    }

    override fun close() {
        litert.LiteRtDestroyCompiledModel(compiled)
        litert.LiteRtDestroyModel(model)
    }

    /**
     * Android's builds log which nodes a delegate took, other builds count that as too verbose. Where the runtime says
     * that it took all of them, how many they are is known here too.
     */
    private fun logResidency() {
        val full = ByteByReference()
        checked(litert.LiteRtCompiledModelIsFullyAccelerated(compiled, full), "Failed to ask for residency")
        // Beside the CPU "all" is of both; the library's own log tells the GPU's share then.
        if (full.value == 0.toByte() || accelerators != setOf(Accelerator.GPU)) return
        val subgraph = handle("Failed to get subgraph") { litert.LiteRtGetSignatureSubgraph(signature, it) }
        val ops = number("Failed to get the number of ops") { litert.LiteRtGetNumSubgraphOps(subgraph, it) }
        val delegate = setting("DELEGATE", "LITERT_WEBGPU")
        val taken = "Replacing $ops out of $ops node(s) with delegate ($delegate) node"
        Log.i("tflite", "$taken, yielding 1 partitions for subgraph 0 (main).")
    }

    private fun inputType(index: Int): Memory {
        val place = index.toLong()
        return type(handle("Failed to get input") { litert.LiteRtGetSignatureInputTensorByIndex(signature, place, it) })
    }

    private fun outputType(index: Int): Memory {
        val place = index.toLong()
        val message = "Failed to get output"
        return type(handle(message) { litert.LiteRtGetSignatureOutputTensorByIndex(signature, place, it) })
    }

    private fun type(tensor: Pointer): Memory {
        val type = Memory(TYPE_BYTES)
        checked(litert.LiteRtGetRankedTensorType(tensor, type), "Failed to get tensor type")
        return type
    }

    private fun buffer(type: Memory, requirements: Pointer, message: String): TensorBuffer =
        TensorBuffer(
            handle(message) {
                litert.LiteRtCreateManagedTensorBufferFromRequirements(environment.handle, type, requirements, it)
            },
            dimensions(type).fold(1L) { product, size -> product * size }.toInt(),
        )

    companion object {
        private const val NOT_FOUND = 6
        private const val UNSUPPORTED = 5
        private const val OUT_OF_TYPES = "Unsupported element type in Kotlin"

        @JvmStatic
        @JvmOverloads
        fun create(filePath: String, options: Options, optionalEnv: Environment? = null): CompiledModel {
            val environment = optionalEnv ?: throw UnsupportedOperationException("the stand-in needs an environment")
            val chosen = handle("Failed to create options") { litert.LiteRtCreateOptions(it) }
            try {
                fill(chosen, options)
                val message = "Failed to load model from file"
                val model = handle(message) { litert.LiteRtCreateModelFromFile(environment.handle, filePath, it) }
                return try {
                    val compiled =
                        handle("Failed to compile model") {
                            litert.LiteRtCreateCompiledModel(environment.handle, model, chosen, it)
                        }
                    CompiledModel(environment, model, compiled, options.accelerators).apply { logResidency() }
                } catch (error: LiteRtException) {
                    litert.LiteRtDestroyModel(model)
                    throw error
                }
            } finally {
                litert.LiteRtDestroyOptions(chosen)
            }
        }

        private fun fill(chosen: Pointer, options: Options) {
            val fallback = if (Accelerator.NPU in options.accelerators) setOf(Accelerator.CPU) else emptySet()
            val bits = (options.accelerators + fallback).sumOf { 1 shl (it.value - 1) }
            checked(litert.LiteRtSetOptionsHardwareAccelerators(chosen, bits), "Failed to set accelerators")
            options.cpuOptions?.numThreads?.let { add(chosen, "xnnpack", mapOf("num_threads" to it)) }
            options.gpuOptions?.let { gpu ->
                val values =
                    mapOf(
                        "precision" to gpu.precision?.value,
                        "buffer_storage_type" to gpu.bufferStorageType?.value,
                        "backend" to gpu.backend?.value,
                        "priority" to gpu.priority?.value,
                    )
                add(chosen, "gpu_options", values)
            }
        }

        /** The C library takes an accelerator's options as TOML under the accelerator's name for them. */
        private fun add(chosen: Pointer, name: String, values: Map<String, Int?>) {
            val toml = values.filterValues { it != null }.map { (key, value) -> "$key = $value\n" }.joinToString("")
            val opaque =
                handle("Failed to create options") { litert.LiteRtCreateOpaqueOptions(name, text(toml), free, it) }
            checked(litert.LiteRtAddOpaqueOptions(chosen, opaque), "Failed to add options")
        }

        private fun dimensions(type: Memory): List<Int> {
            val rank = type.getInt(LAYOUT_OFFSET) and 0x7f
            return List(rank) { type.getInt(LAYOUT_OFFSET + 4 + 4L * it) }
        }

        private fun kotlinType(type: Memory): TensorType {
            val element =
                when (type.getInt(0)) {
                    1 -> TensorType.ElementType.FLOAT
                    2 -> TensorType.ElementType.INT
                    4 -> TensorType.ElementType.INT64
                    6 -> TensorType.ElementType.BOOLEAN
                    9 -> TensorType.ElementType.INT8
                    else -> throw LiteRtException(UNSUPPORTED, OUT_OF_TYPES)
                }
            return TensorType(element, TensorType.Layout(dimensions(type)))
        }
    }
}
