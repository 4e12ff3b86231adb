/** The stand-in's own part: what a device would bring, read from the environment. */
package standin

import java.io.File

/**
 * A setting `STANDIN_<NAME>`. A value that starts with `@` names a file that is read each time, so that a test can
 * change it while the app runs.
 */
fun setting(name: String, default: String = ""): String {
    val value = System.getenv("STANDIN_$name") ?: return default
    return if (value.startsWith("@")) File(value.drop(1)).readText().trim() else value
}
