package dev.litertharness.protocol

import java.io.File
import java.io.FileNotFoundException
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream
import java.security.DigestOutputStream
import java.security.MessageDigest

/** Models by their SHA-256 under [folder], of at most [limit] bytes in all: the one not used for longest goes first. */
class ModelStore(private val folder: File, private val limit: Long) {

    /** Where the model of that digest is, or would be. Throws [Refusal] when it is none. */
    fun path(digest: Any?): File {
        if (digest !is String || digest.length != 64 || digest.any { it !in "0123456789abcdef" }) {
            throw Refusal("${quoted(digest)} is not a sha256")
        }
        return File(folder, "$digest.tflite")
    }

    /** Marks a stored model as just used, so that it stays; false when it is not there. */
    fun touch(model: File): Boolean {
        model.setLastModified(System.currentTimeMillis())
        return model.exists()
    }

    /**
     * Stores [size] bytes that [fill] writes. What is half there is never used: it gets its name only when its digest
     * is the announced one. Throws [Refusal] when it is another one, or when the device has no room.
     */
    fun put(model: File, size: Long, fill: (OutputStream) -> Unit) {
        if (size > limit) throw Refusal("the model has $size bytes, the device keeps at most $limit")
        val partial = File(folder, model.name.removeSuffix(".tflite") + ".part")
        try {
            folder.mkdirs()
            makeRoom(size, model)
            val digest = MessageDigest.getInstance("SHA-256")
            DigestOutputStream(NamedErrors(FileOutputStream(partial)), digest).use(fill)
            val found = digest.digest().joinToString("") { "%02x".format(it) }
            if (found != model.nameWithoutExtension) throw Refusal("the model's bytes do not have the announced sha256")
            if (!partial.renameTo(model)) throw StoreException("it cannot be named")
        } catch (error: StoreException) {
            throw Refusal("the model cannot be stored (${error.message})")
        } catch (error: FileNotFoundException) {
            throw Refusal("the model cannot be stored (${error.message})")
        } finally {
            partial.delete()
        }
    }

    private fun makeRoom(size: Long, except: File) {
        val stored = folder.listFiles { file -> file.isFile && file != except }.orEmpty().sortedBy { it.lastModified() }
        var total = stored.sumOf { it.length() } + size
        for (file in stored) {
            if (total <= limit) return
            total -= file.length()
            file.delete()
        }
    }

    private class StoreException(message: String) : IOException(message)

    /** Tells the store's own errors from those of the connection that the bytes come from. */
    private class NamedErrors(private val file: OutputStream) : OutputStream() {
        override fun write(byte: Int) = named { file.write(byte) }

        override fun write(bytes: ByteArray, from: Int, count: Int) = named { file.write(bytes, from, count) }

        override fun close() = named { file.close() }

        private fun named(action: () -> Unit) {
            try {
                action()
            } catch (error: IOException) {
                throw StoreException(error.message ?: "disk error")
            }
        }
    }
}
