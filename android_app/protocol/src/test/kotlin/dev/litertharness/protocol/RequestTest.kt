package dev.litertharness.protocol

import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import org.json.JSONObject

class RequestTest {
    private fun options(json: String) = Options.of(JSONObject(json))

    @Test
    fun `the three options that every host sends are enough`() {
        val expected = Options(Accelerator.GPU, Precision.FP16_WITH_FP32_ACCUMULATION, 4)
        assertEquals(expected, options("""{"accelerator": "gpu", "precision": "fp16-fp32acc", "threads": 4}"""))
    }

    @Test
    fun `the CPU takes no option of the GPU`() {
        val refusal =
            assertFailsWith<Refusal> {
                options("""{"accelerator": "cpu", "precision": "default", "threads": 0, "priority": "low"}""")
            }
        assertEquals("back end, storage, priority and fallback are the GPU's options", refusal.message)
    }

    @Test
    fun `numbers are integers, not texts or fractions or truth values`() {
        for (wrong in listOf("\"4\"", "4.0", "true", "-1", "1025", "null")) {
            val json = """{"accelerator": "cpu", "precision": "fp32", "threads": $wrong}"""
            assertFailsWith<Refusal>(wrong) { options(json) }
        }
    }

    @Test
    fun `a choice that is none names what there is`() {
        val refusal =
            assertFailsWith<Refusal> {
                options("""{"accelerator": "gpu", "precision": "fp16", "threads": 0, "storage": "image"}""")
            }
        assertEquals("storage is one of default, buffer, texture-2d", refusal.message)
    }
}
