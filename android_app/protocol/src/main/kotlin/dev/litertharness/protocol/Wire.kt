/**
 * The wire between the host and this device. `harness/devices/link.py` documents it; the two must say the same.
 *
 * A frame is `LDH1`, a big-endian header length, a JSON header with `type`, `id` and `payloads`, and the payloads that
 * it announces: little-endian, C order, each with its dtype, shape, byte count and CRC-32.
 */
package dev.litertharness.protocol

import java.io.IOException
import org.json.JSONObject

const val PROTOCOL = 1
const val MAX_HEADER = 1 shl 20
const val MAX_PAYLOADS = 4096
const val MAX_PAYLOAD_BYTES = Int.MAX_VALUE.toLong()
const val MAX_FRAME_BYTES = 1L shl 32
const val MAX_RANK = 8

internal val MAGIC = "LDH1".toByteArray(Charsets.US_ASCII)

/** The other side broke a rule of the wire, or went away in the middle of a frame: the connection is of no more use. */
class WireException(message: String) : IOException(message)

/** In an answer to `hello`: a run may name its inputs by their SHA-256 in place of bringing them. */
const val INPUTS_BY_DIGEST = "inputs-by-digest"

/** The kind of most failures: the request is at fault, or the device cannot do it. */
const val REJECTED = "rejected"

/** The kind of failure of a run that names an input which is not here: with its inputs as payloads it may work. */
const val MISSING = "missing"

/** The request cannot be carried out; its sentence goes back to the host, and the connection stays usable. */
class Refusal(message: String, val kind: String = REJECTED) : Exception(message)

/** The element types that the wire carries, under numpy's names. */
enum class DType(val bytes: Int) {
    FLOAT16(2),
    FLOAT32(4),
    FLOAT64(8),
    BOOL(1),
    COMPLEX64(8),
    INT8(1),
    UINT8(1),
    INT16(2),
    UINT16(2),
    INT32(4),
    UINT32(4),
    INT64(8),
    UINT64(8);

    /** The name in a header. */
    val wireName: String = name.lowercase()

    companion object {
        private val byName = entries.associateBy { it.wireName }

        /** The type of that name, or null. */
        fun of(name: String): DType? = byName[name]
    }
}

/** A payload as a header announces it: [bytes] is its size, [shape] multiplies to [bytes] over the element size. */
data class Announcement(val name: String, val dtype: DType, val shape: List<Long>, val bytes: Long, val crc32: Long)

/** The checked header of one frame. [fields] are all of the header's own fields. */
class Header(val type: String, val id: Long, val fields: JSONObject, val payloads: List<Announcement>)

/** An input that the store has: what would announce it as a payload, and the digest under which it is stored. */
class Kept(val announced: Announcement, val digest: String)

/** A payload in memory: [data] is little-endian, C order. */
class Payload(val name: String, val dtype: DType, val shape: List<Long>, val data: ByteArray)

/** A value as the host writes it in a sentence: text in quotes, lists in brackets. */
internal fun quoted(value: Any?): String =
    when (value) {
        null, JSONObject.NULL -> "None"
        is String -> "'$value'"
        is Boolean -> if (value) "True" else "False"
        else -> value.toString()
    }

/** An integer of a header that is one there, not a text or a fraction that could be read as one. */
internal fun integer(value: Any?): Long? = if (value is Int || value is Long) (value as Number).toLong() else null
