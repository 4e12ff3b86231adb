package dev.litertharness.protocol

import java.io.BufferedOutputStream
import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.CRC32
import org.json.JSONArray
import org.json.JSONObject

/** An output's values, in the array that the runtime gave: a second copy of a large one would not fit on a phone. */
sealed interface Values {
    val dtype: DType
    val size: Int

    /** Appends [count] elements from [from] on, little-endian. */
    fun put(into: ByteBuffer, from: Int, count: Int)
}

class Floats(val data: FloatArray) : Values {
    override val dtype = DType.FLOAT32
    override val size = data.size

    override fun put(into: ByteBuffer, from: Int, count: Int) {
        into.asFloatBuffer().put(data, from, count)
        into.position(into.position() + count * dtype.bytes)
    }
}

class Ints(val data: IntArray) : Values {
    override val dtype = DType.INT32
    override val size = data.size

    override fun put(into: ByteBuffer, from: Int, count: Int) {
        into.asIntBuffer().put(data, from, count)
        into.position(into.position() + count * dtype.bytes)
    }
}

class Longs(val data: LongArray) : Values {
    override val dtype = DType.INT64
    override val size = data.size

    override fun put(into: ByteBuffer, from: Int, count: Int) {
        into.asLongBuffer().put(data, from, count)
        into.position(into.position() + count * dtype.bytes)
    }
}

class Bytes(val data: ByteArray) : Values {
    override val dtype = DType.INT8
    override val size = data.size

    override fun put(into: ByteBuffer, from: Int, count: Int) {
        into.put(data, from, count)
    }
}

class Booleans(val data: BooleanArray) : Values {
    override val dtype = DType.BOOL
    override val size = data.size

    override fun put(into: ByteBuffer, from: Int, count: Int) {
        for (i in from until from + count) into.put(if (data[i]) 1 else 0)
    }
}

/** Values under a name and a shape, to be sent. */
class Result(val name: String, val shape: List<Int>, val values: Values) {
    /** The same in half the bytes where nothing is lost by that. */
    fun narrowed(): Result = if (values is Floats) Result(name, shape, Halves.of(values)) else this
}

/** Writes frames. */
class FrameWriter(output: OutputStream) {
    // Small frames that follow one another go as one piece: adb acknowledges each piece before it takes the next.
    private val output = BufferedOutputStream(output, SMALL)
    private val buffer = ByteBuffer.allocate(CHUNK).order(ByteOrder.LITTLE_ENDIAN)

    /** Sends one frame; [fields] come first in its header. A small one with [more] to follow may wait for that. */
    fun send(
        type: String,
        id: Long,
        fields: Map<String, Any?> = emptyMap(),
        payloads: List<Result> = emptyList(),
        more: Boolean = false,
    ) {
        val header = JSONObject()
        fields.forEach { (name, value) -> header.put(name, JSONObject.wrap(value)) }
        header.put("type", type).put("id", id)
        header.put("payloads", JSONArray(payloads.map(::announce)))
        val raw = header.toString().toByteArray(Charsets.UTF_8)
        if (raw.size > MAX_HEADER) throw WireException("a header of ${raw.size} bytes is over the limit of $MAX_HEADER")
        output.write(ByteBuffer.allocate(8 + raw.size).put(MAGIC).putInt(raw.size).put(raw).array())
        for (payload in payloads) chunks(payload.values) { bytes, count -> output.write(bytes, 0, count) }
        val small = payloads.sumOf { it.values.size.toLong() * it.values.dtype.bytes } < SMALL
        if (!(more && small)) output.flush()
    }

    private fun announce(payload: Result): JSONObject {
        val crc = CRC32()
        chunks(payload.values) { bytes, count -> crc.update(bytes, 0, count) }
        return JSONObject()
            .put("name", payload.name)
            .put("dtype", payload.values.dtype.wireName)
            .put("shape", JSONArray(payload.shape))
            .put("bytes", payload.values.size.toLong() * payload.values.dtype.bytes)
            .put("crc32", crc.value)
    }

    private fun chunks(values: Values, take: (ByteArray, Int) -> Unit) {
        val most = CHUNK / values.dtype.bytes
        for (from in 0 until values.size step most) {
            buffer.clear()
            values.put(buffer, from, minOf(most, values.size - from))
            take(buffer.array(), buffer.position())
        }
    }

    private companion object {
        const val CHUNK = 1 shl 18
        const val SMALL = 1 shl 16
    }
}
