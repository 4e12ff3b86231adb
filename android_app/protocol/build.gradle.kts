import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_17
    }
}

dependencies {
    // Android brings its own.
    compileOnly(libs.json)
    testImplementation(libs.json)
    testImplementation(libs.kotlin.test.junit)
}

tasks.test {
    maxHeapSize = "64m" // the fuzz test's bound
    systemProperty("golden", rootDir.resolve("../tests/standin/golden").path)
}
