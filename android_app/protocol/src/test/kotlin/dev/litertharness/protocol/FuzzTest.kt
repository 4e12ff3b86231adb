package dev.litertharness.protocol

import java.io.ByteArrayInputStream
import java.io.OutputStream
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertTrue
import org.json.JSONArray
import org.json.JSONObject

/** Frames that nobody would send, in a heap of 64 MB: a session ends or answers, and takes no more memory than came. */
class FuzzTest {
    private val random = Random(20261120)
    private val folder = temporaryFolder()
    private val data = ByteArray(300) { it.toByte() }
    private val around =
        SessionContext(
            { _, _ -> PlusOne(mutableListOf()) },
            ModelStore(folder, 1 shl 16),
            facts = { mapOf("runtime" to "9.9.9") },
            memory = 1 shl 20,
        )

    @Test
    fun `10000 fuzzed frames neither crash nor hang a session, nor fill its memory`() {
        var ends = 0
        var answered = 0
        repeat(10_000) {
            val counting = Counting()
            when (Session(ByteArrayInputStream(fuzzed()), counting, around).serve()) {
                is End.Closed, End.Bye -> ends++
            }
            if (counting.bytes > 0) answered++
        }
        assertTrue(ends == 10_000, "$ends of 10000 sessions ended")
        // Else the frames were all so broken that nothing behind the reader was tried.
        assertTrue(answered in 1_500..9_000, "$answered of 10000 frames came so far as to be answered")
    }

    private fun fuzzed(): ByteArray =
        when (random.nextInt(6)) {
            0 -> random.nextBytes(random.nextInt(64))
            1 -> flipped(valid())
            2 -> valid().let { it.copyOf(random.nextInt(it.size)) }
            3 -> raw(text())
            else -> twisted()
        }

    private fun valid(): ByteArray =
        when (random.nextInt(6)) {
            5 -> frame("run", run() + ("inputs" to JSONArray(listOf(kept(floats("x", 1f, 2f))))))
            0 -> frame("hello", mapOf("protocol" to 1))
            1 -> frame("has", mapOf("sha256" to sha256(data)))
            2 -> frame("put", mapOf("sha256" to sha256(data)), listOf(model(*data)))
            3 -> frame("bye")
            else -> frame("run", run(), listOf(floats("x", 1f, 2f)))
        }

    private fun run(): Map<String, Any> =
        mapOf(
            "sha256" to sha256(data),
            "options" to mapOf("accelerator" to "cpu", "precision" to "default", "threads" to 0),
            "outputs" to listOf("y"),
            "positions" to listOf(0),
            "warmup" to 0,
            "iterations" to 1,
        )

    /** A frame of the right form with wrong values in some fields of its header, payload announcements among them. */
    private fun twisted(): ByteArray {
        val whole = valid()
        val length = (4..7).fold(0) { sum, i -> (sum shl 8) or (whole[i].toInt() and 0xff) }
        val header = JSONObject(String(whole, 8, length))
        repeat(1 + random.nextInt(2)) { twist(header) }
        return raw(header.toString()) + whole.copyOfRange(8 + length, whole.size)
    }

    private fun twist(json: JSONObject) {
        val keys = json.keys().asSequence().toList()
        // Mostly what the reader believes and the session must judge.
        val own = (keys - setOf("type", "id", "payloads")).takeIf { it.isNotEmpty() && random.nextInt(4) > 0 } ?: keys
        val key = own.randomOrNull(random) ?: return
        val inner = json.opt(key)
        when {
            inner is JSONObject && random.nextBoolean() -> twist(inner)
            inner is JSONArray && inner.opt(0) is JSONObject && random.nextInt(4) > 0 -> twist(inner.getJSONObject(0))
            random.nextInt(8) == 0 -> json.remove(key)
            else -> json.put(key, value())
        }
    }

    private fun value(): Any? =
        when (random.nextInt(9)) {
            0 -> JSONObject.NULL
            1 -> random.nextBoolean()
            2 -> random.nextLong()
            3 -> listOf(-1, 0, 1, 1 shl 16, Int.MAX_VALUE, 1L shl 31, 1L shl 40, Long.MAX_VALUE).random(random)
            4 -> random.nextDouble()
            5 -> text()
            6 -> JSONArray(List(random.nextInt(12)) { random.nextInt(-1, 9) })
            7 -> JSONObject().put(text(), random.nextInt())
            else -> listOf("float32", "uint8", "gpu", "fp16", "model", "../x", "0".repeat(64)).random(random)
        }

    private fun text(): String = String(CharArray(random.nextInt(24)) { (random.nextInt(1, 0x3000)).toChar() })

    private fun flipped(bytes: ByteArray): ByteArray {
        repeat(1 + random.nextInt(4)) { bytes[random.nextInt(bytes.size)] = random.nextInt().toByte() }
        return bytes
    }

    private class Counting : OutputStream() {
        var bytes = 0

        override fun write(byte: Int) {
            bytes++
        }

        override fun write(bytes: ByteArray, from: Int, count: Int) {
            this.bytes += count
        }
    }
}
