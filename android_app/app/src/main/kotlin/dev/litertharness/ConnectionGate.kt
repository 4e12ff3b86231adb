package dev.litertharness

import android.net.LocalServerSocket
import android.net.LocalSocket
import android.util.Log
import java.io.IOException
import java.util.concurrent.LinkedBlockingQueue
import kotlin.concurrent.thread

private const val ROOT_UID = 0
private const val SHELL_UID = 2000

/** As much as adb carries in one piece, each of which it acknowledges before it takes the next. */
private const val SEND_BUFFER = 1 shl 20

/**
 * Listens on an abstract socket, and admits only root and the shell, as which adbd connects: any app on the phone can
 * reach an abstract socket.
 *
 * A newer connection ends the one before: a host has only one, so that the older is what a broken cable left.
 */
class ConnectionGate(name: String) : AutoCloseable {
    private val server = LocalServerSocket(name)
    private val admitted = LinkedBlockingQueue<LocalSocket>()
    private var current: LocalSocket? = null

    /** Starts to admit, beside whatever runs: a stranger is refused at once, even during a job. */
    fun open() {
        thread(name = "gate", isDaemon = true) {
            try {
                while (true) admit(server.accept())
            } catch (error: IOException) {
                Log.e(TAG, "no longer listening: ${error.message}")
            }
        }
    }

    /** The next admitted connection. */
    fun next(): LocalSocket = admitted.take()

    /** Ends a connection. */
    @Synchronized
    fun dismiss(socket: LocalSocket) {
        hangUp(socket)
        socket.close()
        if (current === socket) current = null
    }

    override fun close() = server.close()

    @Synchronized
    private fun admit(socket: LocalSocket) {
        val peer =
            try {
                socket.sendBufferSize = SEND_BUFFER
                socket.peerCredentials
            } catch (error: IOException) {
                Log.w(TAG, "a connection that cannot be used: ${error.message}")
                return socket.close()
            }
        if (peer.uid != ROOT_UID && peer.uid != SHELL_UID) {
            Log.w(TAG, "refused uid ${peer.uid} (process ${peer.pid}): only the shell and root may connect")
            return socket.close()
        }
        current?.let {
            Log.i(TAG, "a newer connection takes over")
            hangUp(it)
        }
        current = socket
        admitted.put(socket)
    }

    /** Wakes whoever reads or writes there; the descriptor itself is closed by the thread that uses it. */
    private fun hangUp(socket: LocalSocket) {
        try {
            socket.shutdownInput()
            socket.shutdownOutput()
        } catch (_: IOException) {
            // It was closed from the other side already.
        }
    }
}
