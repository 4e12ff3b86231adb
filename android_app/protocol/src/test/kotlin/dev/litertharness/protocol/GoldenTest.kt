package dev.litertharness.protocol

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import org.json.JSONArray
import org.json.JSONObject

/** The frames of `tests/standin/golden`, which the host's side tests too. */
class GoldenTest {
    private val folder = File(System.getProperty("golden") ?: error("-Dgolden=FOLDER is not set"))
    private val frames = JSONArray(File(folder, "frames.json").readText()).objects()
    private val broken = JSONObject(File(folder, "broken.json").readText())
    private val writes = setOf("facts", "able", "output", "completed", "failed")

    @Test
    fun `the app reads what either side wrote`() {
        for (expected in frames) {
            val name = expected.getString("name")
            for (side in listOf("host", "device").filter { it == "host" || name in writes }) {
                val reader = FrameReader(File(folder, "$side/$name.bin").inputStream())
                val header = reader.header() ?: error("$side/$name is empty")
                assertEquals(expected.getString("type"), header.type)
                assertEquals(expected.getLong("id"), header.id)
                val fields = expected.getJSONObject("fields")
                for (key in fields.keys()) {
                    assertEquals(fields.get(key).toString(), header.fields.get(key).toString(), name)
                }
                val payloads = expected.getJSONArray("payloads").objects()
                assertEquals(payloads.size, header.payloads.size)
                for (payload in payloads) {
                    val got = reader.payload()
                    assertEquals(payload.getString("name"), got.name)
                    assertEquals(payload.getString("dtype"), got.dtype.wireName)
                    assertEquals(payload.getJSONArray("shape").toString(), JSONArray(got.shape).toString())
                    assertContentEquals(bytes(payload.getString("hex")), got.data)
                }
                assertEquals(null, reader.header())
            }
        }
    }

    /** To the byte with Android's org.json, which the stand-in has; Maven's keeps no order of keys. */
    @Test
    fun `the app writes its frames as they are kept`() {
        for (expected in frames.filter { it.getString("name") in writes }) {
            val json = expected.getJSONObject("fields")
            val fields = json.keys().asSequence().associateWith(json::get)
            val payloads = expected.getJSONArray("payloads").objects().map(::result)
            val output = ByteArrayOutputStream()
            FrameWriter(output).send(expected.getString("type"), expected.getLong("id"), fields, payloads)
            val file = File(folder, "device/${expected.getString("name")}.bin")
            if (System.getProperty("golden.write") == "true") file.writeBytes(output.toByteArray())
            if (System.getProperty("golden.exact") == "true") {
                assertContentEquals(file.readBytes(), output.toByteArray(), file.path)
            }
            val (kept, written) = listOf(file.readBytes(), output.toByteArray()).map(::contents)
            assertEquals(kept, written, file.path)
        }
    }

    private fun contents(raw: ByteArray): List<Any> {
        val reader = FrameReader(ByteArrayInputStream(raw))
        val header = reader.header() ?: error("no frame")
        val fields = header.fields.keys().asSequence().associateWith { header.fields.get(it).toString() }
        return listOf(fields - "payloads", header.payloads, header.payloads.map { reader.payload().data.toList() })
    }

    @Test
    fun `the app refuses every broken frame`() {
        for (name in broken.keys()) {
            val reader = FrameReader(ByteArrayInputStream(File(folder, "broken/$name.bin").readBytes()))
            val refused =
                assertFailsWith<WireException>(name) { reader.header()?.payloads?.forEach { _ -> reader.payload() } }
            val words = broken.getJSONObject(name).getString("device")
            assertTrue(words in refused.message.orEmpty(), "$name: ${refused.message}")
        }
    }

    private fun result(payload: JSONObject): Result {
        val data = ByteBuffer.wrap(bytes(payload.getString("hex"))).order(ByteOrder.LITTLE_ENDIAN)
        val values =
            when (payload.getString("dtype")) {
                "float32" -> Floats(FloatArray(data.limit() / 4).also { data.asFloatBuffer().get(it) })
                "int32" -> Ints(IntArray(data.limit() / 4).also { data.asIntBuffer().get(it) })
                "int64" -> Longs(LongArray(data.limit() / 8).also { data.asLongBuffer().get(it) })
                "int8" -> Bytes(data.array())
                else -> Booleans(BooleanArray(data.limit()) { data[it] != 0.toByte() })
            }
        val shape = payload.getJSONArray("shape")
        return Result(payload.getString("name"), List(shape.length(), shape::getInt), values)
    }

    private fun bytes(hex: String) = hex.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

    private fun JSONArray.objects(): List<JSONObject> = List(length(), ::getJSONObject)
}
