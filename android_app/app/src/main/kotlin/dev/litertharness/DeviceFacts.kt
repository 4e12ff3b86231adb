package dev.litertharness

import android.app.ActivityManager
import android.content.Context
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import java.io.File
import java.io.IOException

/** What the device says of itself, for the `hello` exchange. */
class DeviceFacts(context: Context) {
    private val power = context.getSystemService(PowerManager::class.java)
    private val battery = context.getSystemService(BatteryManager::class.java)
    private val activities = context.getSystemService(ActivityManager::class.java)

    /** All of it: sizes in bytes, the battery in percent, the headroom as a share of what throttles. */
    fun all(): Map<String, Any?> {
        val memory = ActivityManager.MemoryInfo().also(activities::getMemoryInfo)
        return mapOf(
            "runtime" to BuildConfig.LITERT_VERSION,
            "app" to BuildConfig.VERSION_NAME,
            "system" to "Android ${Build.VERSION.RELEASE} (${Build.FINGERPRINT})",
            "cpu" to soc(),
            "boot_id" to bootId(),
            "model" to Build.MODEL,
            "product" to Build.DEVICE,
            "soc" to soc(),
            "gl_renderer" to GlFacts.ofThisDevice.renderer,
            "gl_version" to GlFacts.ofThisDevice.version,
            "fingerprint" to Build.FINGERPRINT,
            "sdk" to Build.VERSION.SDK_INT,
            "memory_total" to memory.totalMem,
            "memory_available" to memory.availMem,
            "thermal" to thermalStatus(),
            "thermal_headroom" to thermalHeadroom(),
            "battery" to battery.getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY),
            "charging" to battery.isCharging,
            "screen_on" to power.isInteractive,
        )
    }

    /** The thermal status under Android's own name for it, empty where the release does not tell. */
    fun thermalStatus(): String =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) {
            ""
        } else {
            when (val status = power.currentThermalStatus) {
                PowerManager.THERMAL_STATUS_NONE -> "none"
                PowerManager.THERMAL_STATUS_LIGHT -> "light"
                PowerManager.THERMAL_STATUS_MODERATE -> "moderate"
                PowerManager.THERMAL_STATUS_SEVERE -> "severe"
                PowerManager.THERMAL_STATUS_CRITICAL -> "critical"
                PowerManager.THERMAL_STATUS_EMERGENCY -> "emergency"
                PowerManager.THERMAL_STATUS_SHUTDOWN -> "shutdown"
                else -> "status $status"
            }
        }

    /** How near throttling is now, 1.0 being there; null where the device does not tell. */
    private fun thermalHeadroom(): Double? =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) {
            null
        } else {
            power.getThermalHeadroom(0).toDouble().takeUnless(Double::isNaN)
        }

    private fun soc(): String =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.S) {
            Build.HARDWARE
        } else {
            "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}"
        }

    private fun bootId(): String =
        try {
            File("/proc/sys/kernel/random/boot_id").readText().trim()
        } catch (_: IOException) {
            "" // the host reads it over adb
        }
}
