package dev.litertharness.protocol

import java.io.InputStream
import java.io.OutputStream
import java.util.zip.CRC32
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** How long a read may wait, in milliseconds; 0 waits for ever. */
fun interface Patience {
    fun set(milliseconds: Int)
}

/**
 * Reads frames from a stream of which nothing is believed before it is checked.
 *
 * Between frames it waits for ever, within one at most [stallMilliseconds] for the next bytes. Memory grows with the
 * bytes that came, never with an announcement alone.
 */
class FrameReader(
    private val input: InputStream,
    private val patience: Patience = Patience {},
    private val stallMilliseconds: Int = 60_000,
) {
    private val chunk = ByteArray(CHUNK)
    private val pending = ArrayDeque<Announcement>()
    private var left = 0L

    /** The next frame's header, or null when the stream ended before one began. Payloads not read are passed over. */
    fun header(limit: Long = MAX_FRAME_BYTES): Header? {
        skip()
        patience.set(0)
        val first = input.read()
        if (first < 0) return null
        patience.set(stallMilliseconds)
        val head = ByteArray(8)
        head[0] = first.toByte()
        readFully(head, 1)
        if (!head.copyOf(4).contentEquals(MAGIC)) throw WireException("a frame starts with other bytes than LDH1")
        val length = (4..7).fold(0L) { sum, i -> (sum shl 8) or (head[i].toLong() and 0xff) }
        if (length > MAX_HEADER) {
            throw WireException("a header of $length bytes is announced, over the limit of $MAX_HEADER")
        }
        val header = parse(ByteArray(length.toInt()).also { readFully(it, 0) })
        val total = header.payloads.sumOf { it.bytes }
        if (total > limit) {
            throw WireException("$total bytes of payload are announced where at most $limit are expected")
        }
        pending.addAll(header.payloads)
        return header
    }

    /** The next payload, whole. */
    fun payload(): Payload {
        val announced = begin()
        val size = announced.bytes.toInt()
        val crc = CRC32()
        var data = ByteArray(minOf(size, CHUNK))
        var filled = 0
        while (filled < size) {
            if (filled == data.size) data = data.copyOf(minOf(size.toLong(), 2L * data.size).toInt())
            val count = read(data, filled, data.size - filled)
            crc.update(data, filled, count)
            filled += count
        }
        check(announced, crc)
        return Payload(announced.name, announced.dtype, announced.shape, data)
    }

    /** Passes the next payload on as it comes. */
    fun payload(sink: OutputStream) {
        val announced = begin()
        val crc = CRC32()
        while (left > 0) {
            val count = read(chunk, 0, minOf(left, chunk.size.toLong()).toInt())
            crc.update(chunk, 0, count)
            sink.write(chunk, 0, count)
        }
        check(announced, crc)
    }

    private fun begin(): Announcement = pending.removeFirst().also { left = it.bytes }

    private fun skip() {
        left += pending.sumOf { it.bytes }
        pending.clear()
        while (left > 0) read(chunk, 0, minOf(left, chunk.size.toLong()).toInt())
    }

    private fun check(announced: Announcement, crc: CRC32) {
        if (crc.value != announced.crc32) {
            val name = announced.name
            throw WireException("the checksum of payload '$name' does not match: it was corrupted on the way")
        }
    }

    private fun readFully(into: ByteArray, from: Int) {
        var filled = from
        while (filled < into.size) filled += read(into, filled, into.size - filled)
    }

    private fun read(into: ByteArray, from: Int, most: Int): Int {
        val count = input.read(into, from, most)
        if (count < 0) throw WireException("the other side closed the connection")
        if (left > 0) left -= count
        return count
    }

    companion object {
        private const val CHUNK = 1 shl 20

        /** A header's JSON, checked field by field. */
        internal fun parse(raw: ByteArray): Header {
            val json =
                try {
                    JSONObject(String(raw, Charsets.UTF_8))
                } catch (_: JSONException) {
                    throw WireException("a header is not a JSON object")
                } catch (_: StackOverflowError) {
                    throw WireException("a header is nested too deeply")
                }
            val type = json.opt("type") as? String
            val id = integer(json.opt("id"))
            val payloads = json.opt("payloads") as? JSONArray
            if (type == null || id == null || payloads == null) {
                throw WireException("a header lacks type, id or payloads")
            }
            if (payloads.length() > MAX_PAYLOADS) {
                throw WireException("${payloads.length()} payloads are announced, over the limit of $MAX_PAYLOADS")
            }
            return Header(type, id, json, List(payloads.length()) { announcement(payloads.opt(it)) })
        }

        /** What one entry of `payloads` says, checked. Throws [WireException]. */
        internal fun announcement(entry: Any?): Announcement {
            if (entry !is JSONObject) throw WireException("a payload's announcement is not an object")
            val name = entry.opt("name") as? String
            val dtype = (entry.opt("dtype") as? String)?.let(DType::of)
            if (name == null || dtype == null) {
                throw WireException("a payload is announced as ${quoted(entry.opt("name"))} of another type than known")
            }
            val dimensions = entry.opt("shape") as? JSONArray
            val shape = dimensions?.let { list -> List(list.length()) { integer(list.opt(it)) ?: -1 } }
            if (shape == null || shape.size > MAX_RANK || shape.any { it < 0 }) {
                throw WireException("payload '$name' is announced with another shape than up to $MAX_RANK sizes")
            }
            val bytes = integer(entry.opt("bytes")) ?: -1
            val crc32 = integer(entry.opt("crc32"))
            if (crc32 == null || bytes !in 0..MAX_PAYLOAD_BYTES) {
                throw WireException("payload '$name' is announced with ${quoted(entry.opt("bytes"))} bytes")
            }
            if (product(shape, dtype.bytes.toLong()) != bytes) {
                val said = "$bytes bytes for shape $shape of ${dtype.wireName}"
                throw WireException("payload '$name' is announced with $said")
            }
            return Announcement(name, dtype, shape, bytes, crc32)
        }

        /** The product, or -1 where it is over any payload's size. */
        private fun product(shape: List<Long>, element: Long): Long {
            if (0L in shape) return 0
            return shape.fold(element) { product, size ->
                if (product < 0 || size > MAX_PAYLOAD_BYTES / product) -1 else product * size
            }
        }
    }
}
