package standin

import android.app.Instrumentation
import android.content.Context
import android.os.Bundle
import com.sun.jna.Library
import com.sun.jna.Native
import java.io.File
import kotlin.system.exitProcess

private interface Files : Library {
    fun open(path: String, flags: Int, mode: Int): Int

    fun dup2(from: Int, to: Int): Int
}

/** The arguments of `am instrument` without its options for itself: `-e KEY VALUE ... PACKAGE/.CLASS`. */
fun main(arguments: Array<String>) {
    sendOutputTo(setting("LOGCAT"))
    val extras = Bundle()
    var left = arguments.toList()
    while (left.firstOrNull() == "-e" && left.size >= 3) {
        extras.putString(left[1], left[2])
        left = left.drop(3)
    }
    val component = left.singleOrNull()?.split("/")?.takeIf { it.size == 2 }
    if (component == null) {
        System.err.println("usage: -e KEY VALUE ... PACKAGE/.CLASS, not ${arguments.joinToString(" ")}")
        exitProcess(2)
    }
    val (application, name) = component
    val type = Class.forName(if (name.startsWith(".")) application + name else name)
    val instrumentation = type.getDeclaredConstructor().newInstance() as Instrumentation
    instrumentation.attach(Context(File(setting("CACHE", "cache")).absoluteFile))
    instrumentation.onCreate(extras)
}

/** Where logcat would be: the runtime writes to descriptor 2 from C++, so the descriptor itself is turned there. */
private fun sendOutputTo(path: String) {
    if (path.isEmpty()) return
    val files = Native.load("c", Files::class.java)
    val appending = 0x1 or 0x40 or 0x400 // O_WRONLY, O_CREAT, O_APPEND
    val log = files.open(path, appending, 0x1a4)
    check(log >= 0 && files.dup2(log, 1) == 1 && files.dup2(log, 2) == 2) { "$path cannot be written" }
}
