package dev.litertharness.protocol

import java.io.File
import java.io.FileNotFoundException
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream
import java.security.DigestInputStream
import java.security.DigestOutputStream
import java.security.MessageDigest
import java.util.zip.CRC32

/**
 * Models, and inputs of their runs, by their SHA-256 under [folder]: of at most [limit] bytes in all, and of no more
 * than the disk has room for. What was not used for longest goes first.
 */
class ModelStore(private val folder: File, private val limit: Long) {

    /** Where what has that digest is, or would be: a model or not. Throws [Refusal] when it is none. */
    fun path(digest: Any?): File = File(folder, "${digest(digest)}.tflite")

    /** Marks what is stored as just used, so that it stays; false when it is not there. */
    fun touch(model: File): Boolean {
        model.setLastModified(System.currentTimeMillis())
        return model.exists()
    }

    /**
     * The bytes of a stored input, or null where they are not here, or no longer as they came: a phone that goes down
     * may lose what it wrote last. Throws [Refusal] when whole ones are of another size than announced.
     */
    fun read(input: Kept): Payload? {
        val file = path(input.digest)
        if (!touch(file)) return null
        val announced = input.announced
        try {
            // Before memory is taken: the host says how much there should be, the file how much there is.
            val data = if (file.length() == announced.bytes) file.readBytes() else null
            if (data != null && CRC32().apply { update(data) }.value == announced.crc32) {
                return Payload(announced.name, announced.dtype, announced.shape, data)
            }
            if (sha256(file) == input.digest) {
                val said = "${announced.bytes} bytes and checksum ${announced.crc32}"
                throw Refusal("input '${announced.name}' is announced with $said, which is not what is stored")
            }
            file.delete()
        } catch (_: IOException) {
            file.delete()
        }
        return null
    }

    private fun sha256(file: File): String {
        val digest = MessageDigest.getInstance("SHA-256")
        DigestInputStream(file.inputStream(), digest).use { stream ->
            val chunk = ByteArray(CHUNK)
            while (stream.read(chunk) >= 0) Unit
        }
        return hex(digest)
    }

    /**
     * Stores [size] bytes that [fill] writes, of a model or of [what] they are. What is half there is never used: it
     * gets its name only when its digest is the announced one. Throws [Refusal] when it is another one, or when the
     * device has no room.
     */
    fun put(model: File, size: Long, what: String = "model", fill: (OutputStream) -> Unit) {
        if (size > limit) throw Refusal("the $what has $size bytes, the device keeps at most $limit")
        val partial = File(folder, model.name.removeSuffix(".tflite") + ".part")
        try {
            folder.mkdirs()
            makeRoom(size, model)
            val digest = MessageDigest.getInstance("SHA-256")
            DigestOutputStream(NamedErrors(FileOutputStream(partial)), digest).use(fill)
            if (hex(digest) != model.nameWithoutExtension) {
                throw Refusal("the $what's bytes do not have the announced sha256")
            }
            if (!partial.renameTo(model)) throw StoreException("it cannot be named")
        } catch (error: StoreException) {
            throw Refusal("the $what cannot be stored (${error.message})")
        } catch (error: FileNotFoundException) {
            throw Refusal("the $what cannot be stored (${error.message})")
        } finally {
            partial.delete()
        }
    }

    private fun makeRoom(size: Long, except: File) {
        val stored = folder.listFiles { file -> file.isFile && file != except }.orEmpty().sortedBy { it.lastModified() }
        var total = stored.sumOf { it.length() } + size
        // On a full disk, too, what is here makes room, unless all of it is not enough. The disk is asked after each
        // file: that of the compiled model is freed later.
        val helps = total - size + folder.usableSpace >= size
        for (file in stored) {
            if (total <= limit && (!helps || folder.usableSpace >= size)) return
            total -= file.length()
            file.delete()
        }
    }

    private fun hex(digest: MessageDigest) = digest.digest().joinToString("") { "%02x".format(it) }

    companion object {
        private const val CHUNK = 1 shl 16

        /** A header's SHA-256, which names a file here. Throws [Refusal] when it is none. */
        internal fun digest(value: Any?): String {
            if (value !is String || value.length != 64 || value.any { it !in "0123456789abcdef" }) {
                throw Refusal("${quoted(value)} is not a sha256")
            }
            return value
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
