package dev.litertharness

import android.app.Activity
import android.os.Bundle
import android.view.WindowManager
import android.widget.TextView

/** What the app does now, in one line. */
object Status {
    @Volatile
    var line = "not started: run `harness` on a host"
        private set

    /** Shows what is done; null when nothing is. */
    fun show(doing: String?) {
        line = doing ?: "waiting for the host"
    }
}

/** A screen that says what runs, and keeps itself on. */
class StatusActivity : Activity() {
    private lateinit var text: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        text = TextView(this)
        text.textSize = 20f
        text.setPadding(48, 144, 48, 48)
        setContentView(text)
        refresh()
    }

    private fun refresh() {
        val versions = "LiteRT device harness ${BuildConfig.VERSION_NAME}\nLiteRT ${BuildConfig.LITERT_VERSION}"
        text.text = "$versions\n\n${Status.line}"
        if (!isDestroyed) text.postDelayed(::refresh, 500)
    }
}
