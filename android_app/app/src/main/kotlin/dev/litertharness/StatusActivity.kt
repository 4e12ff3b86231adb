package dev.litertharness

import android.app.Activity
import android.os.Bundle
import android.view.WindowManager
import android.widget.TextView
import dev.litertharness.protocol.StatusLine

/** What the app does now, in one line. */
object Status {
    private var line = "not started: run `harness` on a host"
    private var screen: StatusLine? = null

    /** Shows what is done; null when nothing is. */
    @Synchronized
    fun show(doing: String?) {
        line = doing ?: "waiting for the host"
        screen?.show(line)
    }

    /** Has this screen show what is done, from now on. */
    @Synchronized
    fun on(shown: StatusLine) {
        screen = shown
        shown.show(line)
    }

    /** Lets go of a screen. */
    @Synchronized
    fun off(shown: StatusLine) {
        if (screen === shown) screen = null
    }
}

private const val REDRAW_MILLIS = 500L

/** A screen that says what runs, and keeps itself on; drawn anew on a change only, at most twice a second. */
class StatusActivity : Activity() {
    private lateinit var shown: StatusLine

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        val text = TextView(this)
        text.textSize = 20f
        text.setPadding(48, 144, 48, 48)
        setContentView(text)
        val versions = "LiteRT device harness ${BuildConfig.VERSION_NAME}\nLiteRT ${BuildConfig.LITERT_VERSION}"
        text.text = versions
        shown = StatusLine({ text.postDelayed(it, REDRAW_MILLIS) }, { text.text = "$versions\n\n$it" })
        Status.on(shown)
    }

    override fun onDestroy() {
        Status.off(shown)
        super.onDestroy()
    }
}
