package com.google.ai.edge.litert

import com.sun.jna.Memory
import com.sun.jna.Pointer
import com.sun.jna.ptr.IntByReference

private const val TAG_RUNTIME_LIBRARY_DIR = 22
private const val ANY_STRING = 8L

class Environment private constructor(internal val handle: Pointer) : AutoCloseable {

    fun getAvailableAccelerators(): Set<Accelerator> {
        val count = number("Failed to get the number of accelerators") { litert.LiteRtGetNumAccelerators(handle, it) }
        return (0 until count)
            .flatMap { index ->
                val message = "Failed to ask an accelerator"
                val accelerator = handle(message) { litert.LiteRtGetAccelerator(handle, index.toLong(), it) }
                val supported = IntByReference()
                checked(litert.LiteRtGetAcceleratorHardwareSupport(accelerator, supported), message)
                Accelerator.entries.drop(1).filter { supported.value and (1 shl (it.value - 1)) != 0 }
            }
            .toSet()
    }

    override fun close() = litert.LiteRtDestroyEnvironment(handle)

    companion object {
        /** On a phone the runtime finds its libraries in the APK; here it is told where the wheel's are. */
        @JvmStatic
        fun create(): Environment {
            val folder = text(runtimeFolder) // kept: the environment may read it as long as the process lives
            val option = Memory(24)
            option.setLong(0, TAG_RUNTIME_LIBRARY_DIR.toLong())
            option.setLong(8, ANY_STRING)
            option.setPointer(16, folder)
            return Environment(handle("Failed to create environment") { litert.LiteRtCreateEnvironment(1, option, it) })
        }
    }
}
