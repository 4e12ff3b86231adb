plugins {
    alias(libs.plugins.android.application)
}

val litertVersion = providers.gradleProperty("litertVersion").get()
val appVersion = providers.gradleProperty("appVersion").get()

val litert = litertVersion.split(".").let { (major, minor) -> major.toInt() * 1000 + minor.toInt() }
require(litert >= 2002) { "The app needs LiteRT 2.2.0 or newer, not $litertVersion." }

/** From 2.3 on, LiteRT's GPU accelerator is an artifact of its own. */
val gpuApart = litert >= 2003

android {
    namespace = "dev.litertharness"
    compileSdk = 36

    defaultConfig {
        applicationId = "dev.litertharness"
        minSdk = 24 // LiteRT's own
        targetSdk = 36
        versionCode = appVersion.split(".").fold(0) { code, part -> code * 1000 + part.toInt() }
        versionName = appVersion
        buildConfigField("String", "LITERT_VERSION", "\"$litertVersion\"")
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    buildTypes {
        // What the harness installs. A debuggable app runs with CheckJNI and is not compiled ahead of time, which is
        // not what latency should be measured in. The debug key is what every SDK can sign with.
        create("bench") {
            initWith(getByName("release"))
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    buildFeatures { buildConfig = true }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

// LiteRT's way to models in the Play store brings services that ask for permissions; the app gets its models over adb.
configurations.configureEach {
    exclude(group = "com.google.android.gms")
    exclude(group = "com.google.android.play")
}

dependencies {
    implementation(project(":protocol"))
    implementation("com.google.ai.edge.litert:litert:$litertVersion")
    if (gpuApart) implementation("com.google.ai.edge.litert:litert-gpu:$litertVersion")
}
