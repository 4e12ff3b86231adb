plugins {
    // Named here so that all modules use one version; the Android plugin compiles Kotlin by itself, with this one.
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
