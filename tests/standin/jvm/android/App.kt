package android.app

import android.content.Context
import android.os.Bundle
import android.view.View
import android.view.Window
import java.io.File

open class Activity : Context(File("")) {
    val window = Window()

    open fun onCreate(savedInstanceState: Bundle?) {}

    open fun onDestroy() {}

    fun setContentView(view: View) {}

    companion object {
        const val RESULT_OK = -1
        const val RESULT_CANCELED = 0
    }
}

open class Instrumentation {
    lateinit var targetContext: Context
        private set

    fun attach(context: Context) {
        targetContext = context
    }

    open fun onCreate(arguments: Bundle?) {}

    open fun onStart() {}

    /** As on Android, [onStart] runs on a thread of its own; its stack is larger, for the shader compiler of a CPU. */
    fun start() {
        Thread(null, ::onStart, "Instr: ${javaClass.name}", 64L shl 20).start()
    }

    fun finish(resultCode: Int, results: Bundle) {
        // As on Android, the process ends with its instrumentation.
        Runtime.getRuntime().halt(if (resultCode == Activity.RESULT_OK) 0 else 1)
    }
}

class ActivityManager {
    class MemoryInfo {
        var totalMem = 0L
        var availMem = 0L
    }

    fun getMemoryInfo(info: MemoryInfo) {
        val lines = File("/proc/meminfo").readLines()
        val kilobytes = lines.associate { line -> line.substringBefore(":") to line.filter(Char::isDigit) }
        info.totalMem = kilobytes.getValue("MemTotal").toLong() * 1024
        info.availMem = kilobytes.getValue("MemAvailable").toLong() * 1024
    }
}
