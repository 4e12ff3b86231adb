package dev.litertharness.protocol

import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import org.json.JSONArray
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

    private fun inputs(json: String): List<Kept?>? {
        val options = """{"accelerator": "cpu", "precision": "fp32", "threads": 0}"""
        val rest = """"outputs": [], "positions": [], "warmup": 0, "iterations": 1, "inputs": $json"""
        return RunRequest.of(JSONObject("""{"options": $options, $rest}""")).inputs
    }

    @Test
    fun `inputs are named or null, in order`() {
        val named = inputs("[null, ${kept(floats("x", 1f))}, null]").orEmpty()
        assertEquals(listOf(null, sha256(floats("x", 1f).data), null), named.map { it?.digest })
        val announced = named[1]?.announced ?: error("it is null")
        assertEquals(listOf("x", DType.FLOAT32, listOf(1L), 4L), announced.run { listOf(name, dtype, shape, bytes) })
    }

    @Test
    fun `inputs that are no list, or named by something else, are refused`() {
        val x = floats("x", 1f)
        val many = JSONArray(List(MAX_PAYLOADS + 1) { JSONObject.NULL })
        for (wrong in listOf("null", "7", "\"x\"", "{}", "$many")) {
            val refusal = assertFailsWith<Refusal>(wrong) { inputs(wrong) }
            assertEquals("inputs is a list of at most 4096 entries", refusal.message)
        }
        for (digest in listOf("../../databases/x", "", "A".repeat(64), "0".repeat(63), "${"0".repeat(64)}/..", 7)) {
            val refusal = assertFailsWith<Refusal> { inputs("[${kept(x) { put("sha256", digest) }}]") }
            assertEquals("${quoted(digest)} is not a sha256", refusal.message)
        }
        val lies =
            listOf<JSONObject.() -> Unit>(
                { put("bytes", 8) },
                { put("bytes", 1L shl 40).put("shape", JSONArray(listOf(1L shl 38))) },
                { put("shape", JSONArray(listOf(-1))) },
                { put("dtype", "str") },
                { put("crc32", "7") },
            )
        for (lie in lies) assertFailsWith<Refusal> { inputs("[${kept(x, lie)}]") }
        for (entry in listOf("7", "[]", "{}", "true")) assertFailsWith<Refusal>(entry) { inputs("[$entry]") }
        val without = assertFailsWith<Refusal> { inputs("[${kept(x) { remove("sha256") }}]") }
        assertEquals("None is not a sha256", without.message)
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
