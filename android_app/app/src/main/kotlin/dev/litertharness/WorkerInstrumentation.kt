package dev.litertharness

import android.app.Activity
import android.app.Instrumentation
import android.content.Intent
import android.os.Bundle
import android.util.Log
import dev.litertharness.protocol.End
import dev.litertharness.protocol.ModelStore
import dev.litertharness.protocol.Session
import dev.litertharness.protocol.SessionContext
import java.io.File
import java.io.IOException

/** The tag of the app's own lines in logcat. */
const val TAG = "LitertHarness"

/** The name of the abstract socket where the instrumentation has no `socket` argument. */
const val SOCKET = "litert-harness"

private const val STORE_BYTES = 4L shl 30 // two models of the largest size that a .tflite file can have

/**
 * What `am instrument` starts: it serves one connection after another until a host says `bye`.
 *
 *     am instrument -e socket litert-harness dev.litertharness/.WorkerInstrumentation
 *
 * Arguments, all optional: `socket`, the abstract name to listen on; `store_bytes`, the most that models and inputs
 * take.
 */
class WorkerInstrumentation : Instrumentation() {
    private var socket = SOCKET
    private var storeBytes = STORE_BYTES

    override fun onCreate(arguments: Bundle?) {
        super.onCreate(arguments)
        arguments?.getString("socket")?.let { socket = it }
        arguments?.getString("store_bytes")?.toLongOrNull()?.let { storeBytes = it }
        start()
    }

    override fun onStart() {
        super.onStart()
        val context = targetContext
        val facts = DeviceFacts(context)
        val gate =
            try {
                ConnectionGate(socket)
            } catch (error: IOException) {
                Log.e(TAG, "cannot listen on @$socket: ${error.message}")
                return finish(Activity.RESULT_CANCELED, Bundle())
            }
        // In front and with the screen on, so that the phone does not run the work on its slow cores.
        context.startActivity(Intent(context, StatusActivity::class.java).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK))
        val store = ModelStore(File(context.cacheDir, "models"), storeBytes)
        // The host takes the log of a run to be complete once it has this line.
        val answering = { id: Long -> Log.i(TAG, "answered $id").let {} }
        val thermal = facts::thermalStatus
        serve(gate, SessionContext(LiteRtEngine(), store, facts::all, thermal, Status::show, answering = answering))
        gate.close()
        finish(Activity.RESULT_OK, Bundle())
    }

    private fun serve(gate: ConnectionGate, around: SessionContext) {
        gate.open()
        Log.i(TAG, "listening on @$socket")
        Status.show("waiting on @$socket")
        do {
            val socket = gate.next()
            val end = Session(socket.inputStream, socket.outputStream, around) { socket.soTimeout = it }.serve()
            Log.i(TAG, if (end is End.Closed) "connection ended: ${end.reason}" else "the host said bye")
            gate.dismiss(socket)
        } while (end !is End.Bye)
    }
}
