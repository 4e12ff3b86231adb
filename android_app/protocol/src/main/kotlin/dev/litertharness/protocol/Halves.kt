package dev.litertharness.protocol

import java.nio.ByteBuffer

/**
 * Values of float32 that go over the wire as float16, since each of them is one bit for bit: what a GPU computed in
 * float16 takes half the bytes then. They are narrowed as they are sent, without a copy.
 */
class Halves private constructor(private val data: FloatArray) : Values {
    override val dtype = DType.FLOAT16
    override val size = data.size

    override fun put(into: ByteBuffer, from: Int, count: Int) {
        for (i in from until from + count) into.putShort(narrow(data[i].toRawBits()))
    }

    companion object {
        private const val SIGNIFICAND_BITS = 23
        private const val SIGNIFICAND = (1 shl SIGNIFICAND_BITS) - 1
        private const val HIDDEN = 1 shl SIGNIFICAND_BITS
        private const val QUIET = 1 shl (SIGNIFICAND_BITS - 1)
        private const val ALL_ONES = 0xff
        /** Bits that a significand of float16 lacks. */
        private const val LACKING = 13
        /** What an exponent of float32 is over the same one of float16. */
        private const val BIAS = 127 - 15
        private const val LEAST_NORMAL = BIAS + 1
        private const val MOST_NORMAL = BIAS + 30
        private const val LEAST = LEAST_NORMAL - 10

        /** The same values in half the bytes, or [floats] itself where one of them does not fit. */
        fun of(floats: Floats): Values =
            if (floats.data.all { fits(it.toRawBits()) }) Halves(floats.data) else floats

        /** Whether float16 has the value, a NaN with all its bits: widened again it is the same float32. */
        private fun fits(bits: Int): Boolean {
            val significand = bits and SIGNIFICAND
            return when (val exponent = bits ushr SIGNIFICAND_BITS and ALL_ONES) {
                0 -> significand == 0
                ALL_ONES -> lacks(significand, LACKING) && (significand == 0 || significand and QUIET != 0)
                in LEAST_NORMAL..MOST_NORMAL -> lacks(significand, LACKING)
                in LEAST until LEAST_NORMAL -> lacks(significand, LACKING + LEAST_NORMAL - exponent)
                else -> false
            }
        }

        private fun lacks(significand: Int, lowest: Int): Boolean = significand and ((1 shl lowest) - 1) == 0

        private fun narrow(bits: Int): Short {
            val significand = bits and SIGNIFICAND
            val magnitude =
                when (val exponent = bits ushr SIGNIFICAND_BITS and ALL_ONES) {
                    0 -> 0
                    ALL_ONES -> 0x7c00 or (significand ushr LACKING)
                    in LEAST_NORMAL..MOST_NORMAL -> (exponent - BIAS shl 10) or (significand ushr LACKING)
                    else -> (significand or HIDDEN) ushr (LACKING + LEAST_NORMAL - exponent)
                }
            return ((bits ushr 16 and 0x8000) or magnitude).toShort()
        }
    }
}
