package dev.litertharness.protocol

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.InputStream
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class FrameTest {
    @Test
    fun `values larger than any chunk arrive as they were`() {
        val values = FloatArray(700_001) { it * 0.5f }
        val output = ByteArrayOutputStream()
        FrameWriter(output).send("output", 1, payloads = listOf(Result("y", listOf(values.size), Floats(values))))
        val reader = FrameReader(ByteArrayInputStream(output.toByteArray()))
        assertEquals(1, reader.header()?.payloads?.size)
        assertContentEquals(floats("y", *values).data, reader.payload().data)
    }

    @Test
    fun `bytes that come one by one are a frame all the same`() {
        val slow =
            object : InputStream() {
                val bytes = ByteArrayInputStream(frame("put", payloads = listOf(model(1, 2, 3))))

                override fun read(): Int = bytes.read()

                override fun read(into: ByteArray, from: Int, count: Int) = bytes.read(into, from, minOf(count, 1))
            }
        val reader = FrameReader(slow)
        assertEquals("put", reader.header()?.type)
        assertContentEquals(byteArrayOf(1, 2, 3), reader.payload().data)
    }

    @Test
    fun `payloads that were not read are passed over, also those begun`() {
        val two = frame("put", payloads = listOf(model(1, 2, 3), model(4, 5)))
        val reader = FrameReader(ByteArrayInputStream(two + two + frame("bye")))
        assertEquals("put", reader.header()?.type)
        assertContentEquals(byteArrayOf(1, 2, 3), reader.payload().data)
        assertEquals("put", reader.header()?.type)
        assertEquals("bye", reader.header()?.type)
        assertEquals(null, reader.header())
    }

    @Test
    fun `an announcement alone takes no memory`() {
        val huge = frame("put").let { _ ->
            raw("""{"type": "put", "id": 1, "payloads": [{"name": "model", "dtype": "uint8", "shape": [2147483647],
                "bytes": 2147483647, "crc32": 0}]}""")
        }
        val reader = FrameReader(ByteArrayInputStream(huge + ByteArray(10)))
        assertEquals(2147483647L, reader.header()?.payloads?.single()?.bytes)
        assertFailsWith<WireException> { reader.payload() } // and no OutOfMemoryError, in a heap of 64 MB
    }

    @Test
    fun `more bytes than are expected are refused before any is read`() {
        val reader = FrameReader(ByteArrayInputStream(frame("put", payloads = listOf(model(1, 2, 3)))))
        val refused = assertFailsWith<WireException> { reader.header(limit = 2) }
        assertEquals("3 bytes of payload are announced where at most 2 are expected", refused.message)
    }

    @Test
    fun `it waits for ever between frames, and with patience within one`() {
        val waits = mutableListOf<Int>()
        val reader = FrameReader(ByteArrayInputStream(frame("bye")), { waits += it }, 1234)
        reader.header()
        reader.header()
        assertEquals(listOf(0, 1234, 0), waits)
    }

    @Test
    fun `a header over the limit is not sent`() {
        val output = ByteArrayOutputStream()
        val fields = mapOf("reason" to "x".repeat(MAX_HEADER))
        assertFailsWith<WireException> { FrameWriter(output).send("failed", 1, fields) }
        assertTrue(output.size() == 0)
    }

    @Test
    fun `a small frame waits for what follows it and a large one does not`() {
        val output = ByteArrayOutputStream()
        val writer = FrameWriter(output)
        writer.send("output", 1, payloads = listOf(Result("y", listOf(1), Floats(floatArrayOf(1f)))), more = true)
        assertEquals(0, output.size())
        writer.send("completed", 1)
        assertEquals(2, Regex("LDH1").findAll(output.toString("ISO-8859-1")).count())
        output.reset()
        val large = Result("y", listOf(1 shl 16), Floats(FloatArray(1 shl 16)))
        writer.send("output", 2, payloads = listOf(large), more = true)
        assertTrue(output.size() > 1 shl 18)
    }
}
