package android.opengl

import standin.setting

class EGLDisplay

class EGLConfig

class EGLContext

class EGLSurface

/** Keeps Android's order: no context without a display, no string without a current context. */
object EGL14 {
    const val EGL_DEFAULT_DISPLAY = 0
    const val EGL_NONE = 0x3038
    const val EGL_SURFACE_TYPE = 0x3033
    const val EGL_PBUFFER_BIT = 0x0001
    const val EGL_RENDERABLE_TYPE = 0x3040
    const val EGL_OPENGL_ES2_BIT = 0x0004
    const val EGL_CONTEXT_CLIENT_VERSION = 0x3098
    const val EGL_WIDTH = 0x3057
    const val EGL_HEIGHT = 0x3056
    val EGL_NO_CONTEXT = EGLContext()
    val EGL_NO_SURFACE = EGLSurface()

    private var initialized = false
    private val alive = mutableSetOf<Any>()
    internal var current: EGLContext = EGL_NO_CONTEXT

    fun eglGetDisplay(id: Int): EGLDisplay {
        require(id == EGL_DEFAULT_DISPLAY) { "the stand-in has one display" }
        return EGLDisplay()
    }

    fun eglInitialize(display: EGLDisplay, major: IntArray, majorAt: Int, minor: IntArray, minorAt: Int): Boolean {
        if (setting("GL_RENDERER", "Stand-in").isEmpty()) return false // as a phone without OpenGL ES
        initialized = true
        major[majorAt] = 1
        minor[minorAt] = 5
        return true
    }

    fun eglChooseConfig(
        display: EGLDisplay,
        asked: IntArray,
        askedAt: Int,
        found: Array<EGLConfig?>,
        foundAt: Int,
        room: Int,
        count: IntArray,
        countAt: Int,
    ): Boolean {
        check(initialized) { "EGL is not initialized" }
        val wanted = listOf(EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT, EGL_SURFACE_TYPE, EGL_PBUFFER_BIT, EGL_NONE)
        require(asked.drop(askedAt) == wanted && room == 1) { "the stand-in has one configuration" }
        found[foundAt] = EGLConfig()
        count[countAt] = 1
        return true
    }

    fun eglCreateContext(
        display: EGLDisplay,
        config: EGLConfig,
        shared: EGLContext,
        asked: IntArray,
        askedAt: Int,
    ): EGLContext {
        check(initialized) { "EGL is not initialized" }
        require(asked.drop(askedAt) == listOf(EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE)) { "another context" }
        return EGLContext().also(alive::add)
    }

    fun eglCreatePbufferSurface(display: EGLDisplay, config: EGLConfig, asked: IntArray, askedAt: Int): EGLSurface {
        check(initialized) { "EGL is not initialized" }
        require(asked.drop(askedAt) == listOf(EGL_WIDTH, 1, EGL_HEIGHT, 1, EGL_NONE)) { "another surface" }
        return EGLSurface().also(alive::add)
    }

    fun eglMakeCurrent(display: EGLDisplay, draw: EGLSurface, read: EGLSurface, context: EGLContext): Boolean {
        check(initialized && draw === read) { "EGL is not initialized, or draws elsewhere than it reads" }
        if (context !== EGL_NO_CONTEXT) check(context in alive && draw in alive) { "what is made current is destroyed" }
        current = context
        return true
    }

    fun eglDestroySurface(display: EGLDisplay, surface: EGLSurface): Boolean = alive.remove(surface)

    fun eglDestroyContext(display: EGLDisplay, context: EGLContext): Boolean {
        check(context !== current) { "a current context lives on" }
        return alive.remove(context)
    }

    fun eglTerminate(display: EGLDisplay): Boolean {
        check(alive.isEmpty()) { "a context or a surface is left" }
        initialized = false
        return true
    }

    fun eglReleaseThread(): Boolean = true
}

object GLES20 {
    const val GL_RENDERER = 0x1F01
    const val GL_VERSION = 0x1F02

    /** Null without a current context, as on a phone. */
    fun glGetString(name: Int): String? =
        when {
            EGL14.current === EGL14.EGL_NO_CONTEXT -> null
            name == GL_RENDERER -> setting("GL_RENDERER", "Stand-in")
            name == GL_VERSION -> setting("GL_VERSION", "OpenGL ES 3.2 stand-in")
            else -> error("the stand-in has no string $name")
        }
}
