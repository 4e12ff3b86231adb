package android.util

import java.time.LocalDateTime
import java.time.format.DateTimeFormatter

/** Lines as `logcat -v threadtime` shows them, on descriptor 2 like what the runtime itself logs. */
object Log {
    private val time = DateTimeFormatter.ofPattern("MM-dd HH:mm:ss.SSS")

    fun i(tag: String, message: String): Int = line('I', tag, message)

    fun w(tag: String, message: String): Int = line('W', tag, message)

    fun e(tag: String, message: String): Int = line('E', tag, message)

    // Thread.threadId(), which replaces it, is not in Java 17.
    @Suppress("DEPRECATION")
    private fun line(level: Char, tag: String, message: String): Int {
        val now = LocalDateTime.now().format(time)
        val (process, thread) = listOf(ProcessHandle.current().pid(), Thread.currentThread().id)
        val text = "%s %5d %5d %c %-8s: %s\n".format(now, process, thread, level, tag, message)
        System.err.write(text.toByteArray())
        System.err.flush()
        return text.length
    }
}
