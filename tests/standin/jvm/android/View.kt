package android.view

open class View {
    /** Said once a second on a phone, never here: nothing shows it. */
    fun postDelayed(action: () -> Unit, milliseconds: Long): Boolean = true

    fun setPadding(left: Int, top: Int, right: Int, bottom: Int) {}
}

class Window {
    fun addFlags(flags: Int) {}
}

object WindowManager {
    object LayoutParams {
        const val FLAG_KEEP_SCREEN_ON = 0x80
    }
}
