package dev.litertharness.protocol

/**
 * The line on a screen that says what is done: drawn when it differs from the one that is there, and then once, however
 * often it changed in between. A screen that is drawn anew costs the GPU time, which is what is measured.
 *
 * `later` runs a task on the screen's own thread after a while; `draw` shows a line there.
 */
class StatusLine(private val later: (() -> Unit) -> Unit, private val draw: (String) -> Unit) {
    private var wanted = ""
    private var drawn: String? = null
    private var waiting = false

    /** From any thread: this is what is done now. */
    @Synchronized
    fun show(line: String) {
        wanted = line
        if (waiting || line == drawn) return
        waiting = true
        later(::redraw)
    }

    private fun redraw() {
        val line = taken() ?: return
        draw(line)
    }

    @Synchronized
    private fun taken(): String? {
        waiting = false
        if (wanted == drawn) return null
        drawn = wanted
        return wanted
    }
}
