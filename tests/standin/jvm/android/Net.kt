package android.net

import com.sun.jna.Library
import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.ptr.IntByReference
import java.io.FileDescriptor
import java.io.FileInputStream
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.util.concurrent.atomic.AtomicBoolean
import standin.setting

private const val AF_UNIX = 1
private const val SOCK_STREAM_CLOEXEC = 1 or 0x80000
private const val SOL_SOCKET = 1
private const val SO_SNDBUF = 7
private const val SO_PEERCRED = 17
private const val SO_RCVTIMEO = 20
private const val SO_SNDTIMEO = 21
private const val SHUT_RD = 0
private const val SHUT_WR = 1
private const val SHELL_UID = 2000

private interface Sockets : Library {
    fun socket(domain: Int, type: Int, protocol: Int): Int

    fun bind(socket: Int, address: Memory, length: Int): Int

    fun listen(socket: Int, backlog: Int): Int

    fun accept4(socket: Int, address: Memory?, length: IntByReference?, flags: Int): Int

    fun getsockopt(socket: Int, level: Int, option: Int, value: Memory, length: IntByReference): Int

    fun setsockopt(socket: Int, level: Int, option: Int, value: Memory, length: Int): Int

    fun shutdown(socket: Int, how: Int): Int

    fun close(socket: Int): Int

    fun getuid(): Int

    fun strerror(code: Int): String
}

private val sockets by lazy { Native.load("c", Sockets::class.java) }

private fun checked(result: Int): Int {
    if (result < 0) throw IOException(sockets.strerror(Native.getLastError()))
    return result
}

class Credentials(val pid: Int, val uid: Int, val gid: Int)

/** A server on an abstract Unix socket, as Android's. */
class LocalServerSocket(name: String) {
    private val descriptor = checked(sockets.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0))

    init {
        val raw = name.toByteArray()
        val address = Memory(3L + raw.size)
        address.setShort(0, AF_UNIX.toShort())
        address.setByte(2, 0)
        address.write(3, raw, 0, raw.size)
        try {
            checked(sockets.bind(descriptor, address, address.size().toInt()))
            checked(sockets.listen(descriptor, 50))
        } catch (error: IOException) {
            sockets.close(descriptor)
            throw error
        }
    }

    fun accept(): LocalSocket = LocalSocket(checked(sockets.accept4(descriptor, null, null, 0x80000)))

    fun close() {
        sockets.close(descriptor)
    }
}

class LocalSocket(private val descriptor: Int) {
    private val closed = AtomicBoolean()

    val inputStream: InputStream = FileInputStream(fileDescriptor(descriptor))
    val outputStream: OutputStream = FileOutputStream(fileDescriptor(descriptor))

    /** Who connected. The user who runs the stand-in plays Android's shell; `STANDIN_SHELL_UID` names another one. */
    val peerCredentials: Credentials
        get() {
            val raw = Memory(12)
            checked(sockets.getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, raw, IntByReference(12)))
            val uid = raw.getInt(4)
            val shell = setting("SHELL_UID").ifEmpty { sockets.getuid().toString() }.toInt()
            return Credentials(raw.getInt(0), if (uid == shell) SHELL_UID else uid, raw.getInt(8))
        }

    var soTimeout = 0
        set(milliseconds) {
            field = milliseconds
            val interval = Memory(16)
            interval.setLong(0, milliseconds / 1000L)
            interval.setLong(8, milliseconds % 1000 * 1000L)
            for (option in listOf(SO_RCVTIMEO, SO_SNDTIMEO)) {
                checked(sockets.setsockopt(descriptor, SOL_SOCKET, option, interval, 16))
            }
        }

    var sendBufferSize = 0
        set(bytes) {
            field = bytes
            val value = Memory(4).apply { setInt(0, bytes) }
            checked(sockets.setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, value, 4))
        }

    fun shutdownInput() {
        checked(sockets.shutdown(descriptor, SHUT_RD))
    }

    fun shutdownOutput() {
        checked(sockets.shutdown(descriptor, SHUT_WR))
    }

    fun close() {
        if (closed.compareAndSet(false, true)) sockets.close(descriptor)
    }

    private companion object {
        fun fileDescriptor(number: Int): FileDescriptor {
            val field = FileDescriptor::class.java.getDeclaredField("fd").apply { isAccessible = true }
            return FileDescriptor().also { field.setInt(it, number) }
        }
    }
}
