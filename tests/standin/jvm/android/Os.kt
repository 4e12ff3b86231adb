package android.os

import standin.setting

class Bundle {
    private val values = mutableMapOf<String, String>()

    fun getString(key: String): String? = values[key]

    fun putString(key: String, value: String) {
        values[key] = value
    }
}

object Build {
    val MODEL = setting("MODEL", "Stand-in")
    val DEVICE = setting("DEVICE", "standin")
    val FINGERPRINT = setting("FINGERPRINT", "standin/standin/standin:16/STANDIN/1:userdebug/test-keys")
    val HARDWARE = setting("HARDWARE", "standin")
    val SOC_MANUFACTURER = setting("SOC_MANUFACTURER", "Stand-in")
    val SOC_MODEL = setting("SOC_MODEL", "host CPU")

    object VERSION {
        val SDK_INT = setting("SDK", "36").toInt()
        val RELEASE = setting("RELEASE", "16")
    }

    object VERSION_CODES {
        const val Q = 29
        const val R = 30
        const val S = 31
    }
}

class PowerManager {
    val currentThermalStatus: Int
        get() = setting("THERMAL_STATUS", "0").toInt()

    val isInteractive: Boolean
        get() = setting("SCREEN_ON", "true").toBoolean()

    fun getThermalHeadroom(forecastSeconds: Int): Float = setting("THERMAL_HEADROOM", "NaN").toFloat()

    companion object {
        const val THERMAL_STATUS_NONE = 0
        const val THERMAL_STATUS_LIGHT = 1
        const val THERMAL_STATUS_MODERATE = 2
        const val THERMAL_STATUS_SEVERE = 3
        const val THERMAL_STATUS_CRITICAL = 4
        const val THERMAL_STATUS_EMERGENCY = 5
        const val THERMAL_STATUS_SHUTDOWN = 6
    }
}

class BatteryManager {
    val isCharging: Boolean
        get() = setting("CHARGING", "true").toBoolean()

    fun getIntProperty(property: Int): Int {
        require(property == BATTERY_PROPERTY_CAPACITY) { "the stand-in has no battery property $property" }
        return setting("BATTERY", "100").toInt()
    }

    companion object {
        const val BATTERY_PROPERTY_CAPACITY = 4
    }
}
