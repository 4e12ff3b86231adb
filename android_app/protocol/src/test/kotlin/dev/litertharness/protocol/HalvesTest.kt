package dev.litertharness.protocol

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertIs

class HalvesTest {
    private fun bits(vararg patterns: Int) = Floats(FloatArray(patterns.size) { Float.fromBits(patterns[it]) })

    private fun sent(values: Values): ShortArray {
        val bytes = ByteBuffer.allocate(values.size * values.dtype.bytes).order(ByteOrder.LITTLE_ENDIAN)
        values.put(bytes, 0, values.size)
        bytes.flip()
        return ShortArray(values.size) { bytes.short }
    }

    /** By the definition of float16 (IEEE 754 binary16): sign, exponent with bias 15, ten bits of significand. */
    private fun widened(half: Int): Float {
        val sign = if (half and 0x8000 != 0) -1f else 1f
        val significand = half and 0x3ff
        return when (val exponent = half ushr 10 and 0x1f) {
            0 -> sign * Math.scalb(significand.toFloat(), -24)
            31 -> if (significand == 0) sign * Float.POSITIVE_INFINITY else Float.NaN
            else -> sign * Math.scalb((significand or 0x400).toFloat(), exponent - 25)
        }
    }

    @Test
    fun `every number of float16 goes as itself`() {
        val numbers = (0..0xffff).filter { it and 0x7c00 != 0x7c00 || it and 0x3ff == 0 }
        val values = Halves.of(Floats(FloatArray(numbers.size) { widened(numbers[it]) }))
        assertIs<Halves>(values)
        assertEquals(DType.FLOAT16, values.dtype)
        assertContentEquals(ShortArray(numbers.size) { numbers[it].toShort() }, sent(values))
    }

    @Test
    fun `a NaN keeps its sign and its bits`() {
        val values = Halves.of(bits(0x7fc00000, 0xffc00000.toInt(), 0x7fc02000, 0x7fffe000))
        assertIs<Halves>(values)
        assertContentEquals(shortArrayOf(0x7e00, 0xfe00.toShort(), 0x7e01, 0x7fff), sent(values))
    }

    @Test
    fun `a single value that float16 lacks keeps all of them as they are`() {
        val lacking =
            listOf(
                0x7fc00001, // a NaN with a low bit
                0x7f802000, // a signaling NaN
                0x3f800001, // 1 and the last bit
                0x3f801000, // 1 and half of float16's last bit
                0x47800000, // 65536
                0x477fe001, // 65504 and the last bit
                0x33000000, // 2^-25
                0x33c00000, // 1.5 * 2^-24
                0x387fe000, // below 2^-14 with a bit too many
                0x00000001, // the least of float32
                0x00400000,
            )
        for (pattern in lacking) {
            for (sign in listOf(0, Int.MIN_VALUE)) {
                val floats = bits(0x3f800000, pattern or sign)
                assertEquals<Values>(floats, Halves.of(floats), "%08x".format(pattern or sign))
            }
        }
    }

    @Test
    fun `the least and the largest go as they are`() {
        val values = Halves.of(bits(0x33800000, 0x387fc000, 0x38800000, 0x477fe000, 0x7f800000, Int.MIN_VALUE))
        assertContentEquals(shortArrayOf(0x0001, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0x8000.toShort()), sent(values))
    }

    @Test
    fun `a part of them is sent from where it is asked for`() {
        val bytes = ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN)
        Halves.of(Floats(floatArrayOf(1f, 2f, 3f, 4f))).put(bytes, 1, 2)
        assertContentEquals(byteArrayOf(0, 0x40, 0, 0x42), bytes.array())
    }

    @Test
    fun `only results of float32 are narrowed`() {
        val whole = Result("y", listOf(1), Ints(intArrayOf(1)))
        assertEquals(whole, whole.narrowed())
        assertIs<Halves>(Result("y", listOf(1), Floats(floatArrayOf(1f))).narrowed().values)
    }
}
