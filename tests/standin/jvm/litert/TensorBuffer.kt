package com.google.ai.edge.litert

import com.sun.jna.Pointer
import java.util.concurrent.atomic.AtomicBoolean

private const val LOCK_READ = 0
private const val LOCK_WRITE = 1
private const val RUNTIME_FAILURE = 3

class TensorBuffer internal constructor(internal val handle: Pointer, private val elements: Int) : AutoCloseable {
    private val closed = AtomicBoolean()

    fun writeInt(data: IntArray) = write(4L * data.size) { it.write(0, data, 0, data.size) }

    fun writeFloat(data: FloatArray) = write(4L * data.size) { it.write(0, data, 0, data.size) }

    fun writeInt8(data: ByteArray) = write(data.size.toLong()) { it.write(0, data, 0, data.size) }

    fun writeBoolean(data: BooleanArray) = writeInt8(ByteArray(data.size) { if (data[it]) 1 else 0 })

    fun writeLong(data: LongArray) = write(8L * data.size) { it.write(0, data, 0, data.size) }

    fun readInt(): IntArray = locked(LOCK_READ) { it.getIntArray(0, elements) }

    fun readFloat(): FloatArray = locked(LOCK_READ) { it.getFloatArray(0, elements) }

    fun readInt8(): ByteArray = locked(LOCK_READ) { it.getByteArray(0, elements) }

    fun readBoolean(): BooleanArray = readInt8().let { raw -> BooleanArray(elements) { raw[it] != 0.toByte() } }

    fun readLong(): LongArray = locked(LOCK_READ) { it.getLongArray(0, elements) }

    override fun close() {
        if (closed.compareAndSet(false, true)) litert.LiteRtDestroyTensorBuffer(handle)
    }

    private fun write(bytes: Long, copy: (Pointer) -> Unit) {
        locked(LOCK_WRITE) { address ->
            val room = number("Failed to get the buffer's size") { litert.LiteRtGetTensorBufferPackedSize(handle, it) }
            if (room < bytes) {
                val words = "TensorBuffer host memory buffer size is smaller than the given data size"
                throw LiteRtException(RUNTIME_FAILURE, "$words, $room vs $bytes")
            }
            copy(address)
        }
    }

    private fun <T> locked(mode: Int, use: (Pointer) -> T): T {
        check(!closed.get()) { "The handle has been destroyed." }
        val address = handle("Failed to lock the tensor buffer") { litert.LiteRtLockTensorBuffer(handle, it, mode) }
        try {
            return use(address)
        } finally {
            litert.LiteRtUnlockTensorBuffer(handle)
        }
    }
}
