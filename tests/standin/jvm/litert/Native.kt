package com.google.ai.edge.litert

import com.sun.jna.Library
import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import com.sun.jna.ptr.ByteByReference
import com.sun.jna.ptr.IntByReference
import com.sun.jna.ptr.LongByReference
import com.sun.jna.ptr.PointerByReference
import java.io.File

/** The functions of litert/c that the app's calls come to; each gives a LiteRtStatus. */
internal interface LiteRt : Library {
    fun LiteRtCreateEnvironment(count: Int, options: Pointer?, environment: PointerByReference): Int

    fun LiteRtDestroyEnvironment(environment: Pointer)

    fun LiteRtGetNumAccelerators(environment: Pointer, count: LongByReference): Int

    fun LiteRtGetAccelerator(environment: Pointer, index: Long, accelerator: PointerByReference): Int

    fun LiteRtGetAcceleratorHardwareSupport(accelerator: Pointer, supported: IntByReference): Int

    fun LiteRtCreateOptions(options: PointerByReference): Int

    fun LiteRtDestroyOptions(options: Pointer)

    fun LiteRtSetOptionsHardwareAccelerators(options: Pointer, accelerators: Int): Int

    fun LiteRtCreateOpaqueOptions(name: String, payload: Pointer, free: Pointer, options: PointerByReference): Int

    fun LiteRtAddOpaqueOptions(options: Pointer, opaque: Pointer): Int

    fun LiteRtCreateModelFromFile(environment: Pointer, path: String, model: PointerByReference): Int

    fun LiteRtDestroyModel(model: Pointer)

    fun LiteRtGetModelSignature(model: Pointer, index: Long, signature: PointerByReference): Int

    fun LiteRtGetNumSignatureInputs(signature: Pointer, count: LongByReference): Int

    fun LiteRtGetNumSignatureOutputs(signature: Pointer, count: LongByReference): Int

    fun LiteRtGetSignatureInputName(signature: Pointer, index: Long, name: PointerByReference): Int

    fun LiteRtGetSignatureOutputName(signature: Pointer, index: Long, name: PointerByReference): Int

    fun LiteRtGetSignatureInputTensorByIndex(signature: Pointer, index: Long, tensor: PointerByReference): Int

    fun LiteRtGetSignatureOutputTensorByIndex(signature: Pointer, index: Long, tensor: PointerByReference): Int

    fun LiteRtGetSignatureSubgraph(signature: Pointer, subgraph: PointerByReference): Int

    fun LiteRtGetNumSubgraphOps(subgraph: Pointer, count: LongByReference): Int

    fun LiteRtCompiledModelIsFullyAccelerated(compiled: Pointer, full: ByteByReference): Int

    fun LiteRtGetRankedTensorType(tensor: Pointer, type: Pointer): Int

    fun LiteRtCreateCompiledModel(
        environment: Pointer,
        model: Pointer,
        options: Pointer,
        compiled: PointerByReference,
    ): Int

    fun LiteRtDestroyCompiledModel(compiled: Pointer)

    fun LiteRtGetCompiledModelInputBufferRequirements(
        compiled: Pointer,
        signature: Long,
        index: Long,
        requirements: PointerByReference,
    ): Int

    fun LiteRtGetCompiledModelOutputBufferRequirements(
        compiled: Pointer,
        signature: Long,
        index: Long,
        requirements: PointerByReference,
    ): Int

    fun LiteRtGetCompiledModelInputTensorLayout(compiled: Pointer, signature: Long, index: Long, layout: Pointer): Int

    fun LiteRtGetCompiledModelOutputTensorLayouts(
        compiled: Pointer,
        signature: Long,
        count: Long,
        layouts: Pointer,
        update: Byte,
    ): Int

    fun LiteRtCreateManagedTensorBufferFromRequirements(
        environment: Pointer,
        type: Pointer,
        requirements: Pointer,
        buffer: PointerByReference,
    ): Int

    fun LiteRtDestroyTensorBuffer(buffer: Pointer)

    fun LiteRtGetTensorBufferPackedSize(buffer: Pointer, size: LongByReference): Int

    fun LiteRtLockTensorBuffer(buffer: Pointer, address: PointerByReference, mode: Int): Int

    fun LiteRtUnlockTensorBuffer(buffer: Pointer): Int

    fun LiteRtRunCompiledModel(
        compiled: Pointer,
        signature: Long,
        inputCount: Long,
        inputs: Pointer,
        outputCount: Long,
        outputs: Pointer,
    ): Int
}

/** The folder of the wheel, which holds the runtime and its GPU accelerator. */
internal val runtimeFolder: String = System.getProperty("litert.folder") ?: error("litert.folder is not set")

internal val litert: LiteRt by lazy { Native.load(File(runtimeFolder, "libLiteRt.so").path, LiteRt::class.java) }

/** The C library's `free`, for memory that the runtime is to release. */
internal val free: Pointer by lazy { NativeLibrary.getInstance("c").getFunction("free") }

internal fun checked(status: Int, message: String) {
    if (status != 0) throw LiteRtException(status, message)
}

internal inline fun handle(message: String, get: (PointerByReference) -> Int): Pointer {
    val reference = PointerByReference()
    checked(get(reference), message)
    return reference.value
}

internal inline fun number(message: String, get: (LongByReference) -> Int): Int {
    val reference = LongByReference()
    checked(get(reference), message)
    return reference.value.toInt()
}

internal fun text(value: String): Pointer {
    val raw = value.toByteArray() + 0
    return Pointer(Native.malloc(raw.size.toLong())).also { it.write(0, raw, 0, raw.size) }
}

/** Handles one after another, as C takes an array of them. */
internal fun array(handles: List<Pointer>): Memory =
    Memory(8L * maxOf(handles.size, 1)).also { handles.forEachIndexed { i, handle -> it.setPointer(8L * i, handle) } }
