package dev.litertharness

import android.opengl.EGL14
import android.opengl.EGLConfig
import android.opengl.EGLContext
import android.opengl.EGLDisplay
import android.opengl.EGLSurface
import android.opengl.GLES20

/** What OpenGL ES says of the GPU and its driver, which OpenCL has in common with it; empty where it says nothing. */
data class GlFacts(val renderer: String, val version: String) {
    companion object {
        private val NONE = GlFacts("", "")

        /** Asked once, in a context of one pixel that is gone again afterwards. */
        val ofThisDevice: GlFacts by lazy {
            try {
                ask()
            } catch (_: RuntimeException) {
                NONE // a name is not worth a phone that cannot be used
            }
        }

        private fun ask(): GlFacts {
            val display = EGL14.eglGetDisplay(EGL14.EGL_DEFAULT_DISPLAY)
            if (!EGL14.eglInitialize(display, IntArray(1), 0, IntArray(1), 0)) return NONE
            try {
                val config = config(display) ?: return NONE
                val asked = intArrayOf(EGL14.EGL_CONTEXT_CLIENT_VERSION, 2, EGL14.EGL_NONE)
                val context = EGL14.eglCreateContext(display, config, EGL14.EGL_NO_CONTEXT, asked, 0)
                val pixel = intArrayOf(EGL14.EGL_WIDTH, 1, EGL14.EGL_HEIGHT, 1, EGL14.EGL_NONE)
                val surface = EGL14.eglCreatePbufferSurface(display, config, pixel, 0)
                return read(display, surface, context)
            } finally {
                EGL14.eglTerminate(display)
                EGL14.eglReleaseThread()
            }
        }

        private fun config(display: EGLDisplay): EGLConfig? {
            val asked =
                intArrayOf(
                    EGL14.EGL_RENDERABLE_TYPE,
                    EGL14.EGL_OPENGL_ES2_BIT,
                    EGL14.EGL_SURFACE_TYPE,
                    EGL14.EGL_PBUFFER_BIT,
                    EGL14.EGL_NONE,
                )
            val found = arrayOfNulls<EGLConfig>(1)
            val taken = EGL14.eglChooseConfig(display, asked, 0, found, 0, 1, IntArray(1), 0)
            return found[0].takeIf { taken }
        }

        private fun read(display: EGLDisplay, surface: EGLSurface?, context: EGLContext?): GlFacts {
            if (surface == null || context == null || !EGL14.eglMakeCurrent(display, surface, surface, context)) {
                return NONE
            }
            try {
                return GlFacts(
                    GLES20.glGetString(GLES20.GL_RENDERER).orEmpty(),
                    GLES20.glGetString(GLES20.GL_VERSION).orEmpty(),
                )
            } finally {
                EGL14.eglMakeCurrent(display, EGL14.EGL_NO_SURFACE, EGL14.EGL_NO_SURFACE, EGL14.EGL_NO_CONTEXT)
                EGL14.eglDestroySurface(display, surface)
                EGL14.eglDestroyContext(display, context)
            }
        }
    }
}
