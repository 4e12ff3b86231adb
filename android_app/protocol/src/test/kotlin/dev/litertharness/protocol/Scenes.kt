package dev.litertharness.protocol

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.file.Files
import java.security.MessageDigest
import java.util.zip.CRC32
import org.json.JSONArray
import org.json.JSONObject

/** A frame with any header and any bytes behind it, announced truly. */
fun frame(
    type: String,
    fields: Map<String, Any?> = emptyMap(),
    payloads: List<Payload> = emptyList(),
    id: Long = 1,
): ByteArray {
    val announced =
        payloads.map {
            val crc = CRC32().apply { update(it.data) }
            JSONObject()
                .put("name", it.name)
                .put("dtype", it.dtype.wireName)
                .put("shape", JSONArray(it.shape))
                .put("bytes", it.data.size)
                .put("crc32", crc.value)
        }
    val header = JSONObject(fields).put("type", type).put("id", id).put("payloads", JSONArray(announced))
    return payloads.fold(raw(header.toString())) { whole, payload -> whole + payload.data }
}

/** A frame's head and any text as its header. */
fun raw(header: String): ByteArray {
    val text = header.toByteArray()
    return ByteBuffer.allocate(8 + text.size).put(MAGIC).putInt(text.size).put(text).array()
}

fun floats(name: String, vararg values: Float): Payload {
    val data = ByteBuffer.allocate(4 * values.size).order(java.nio.ByteOrder.LITTLE_ENDIAN)
    values.forEach(data::putFloat)
    return Payload(name, DType.FLOAT32, listOf(values.size.toLong()), data.array())
}

fun model(vararg bytes: Byte) = Payload("model", DType.UINT8, listOf(bytes.size.toLong()), bytes)

/** An entry of a run's `inputs`: the payload's own announcement with its digest, or a lie about it. */
fun kept(input: Payload, change: JSONObject.() -> Unit = {}): JSONObject =
    JSONObject()
        .put("name", input.name)
        .put("dtype", input.dtype.wireName)
        .put("shape", JSONArray(input.shape))
        .put("bytes", input.data.size)
        .put("crc32", CRC32().apply { update(input.data) }.value)
        .put("sha256", sha256(input.data))
        .apply(change)

fun sha256(data: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(data).joinToString("") { "%02x".format(it) }

fun temporaryFolder(): File = Files.createTempDirectory("protocol").toFile().apply { deleteOnExit() }

/** A model that adds one to its only input, and tells what is done to it. */
class PlusOne(private val calls: MutableList<String>) : Compiled {
    override val full = true
    private var values = floatArrayOf()

    override fun prepare(inputs: List<Payload>): Feed {
        val input = inputs.singleOrNull() ?: throw Refusal("${inputs.size} inputs came for a model that takes 1")
        if (input.dtype != DType.FLOAT32) throw Refusal("input '${input.name}' came as ${input.dtype.wireName}")
        val buffer = ByteBuffer.wrap(input.data).order(java.nio.ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return Feed {
            calls += "write"
            values = FloatArray(buffer.limit()) { buffer[it] }
        }
    }

    override fun run() {
        calls += "run"
        values = FloatArray(values.size) { values[it] + 1 }
    }

    override fun read(output: Wanted): Result {
        calls += "read ${output.position}"
        if (output.position > 0) throw Refusal("the model has no output ${output.position}")
        return Result(output.name, listOf(values.size), Floats(values))
    }

    override fun release(output: Wanted) {
        calls += "release ${output.position}"
    }

    override fun close() {
        calls += "close"
    }
}

/** A session over bytes: what it answers to requests that are all there already. */
class Conversation(val folder: File = temporaryFolder(), memory: Long = 1L shl 20, storeBytes: Long = 1L shl 20) {
    val calls = mutableListOf<String>()
    val shown = mutableListOf<String?>()
    private val engine = Engine { _, options ->
        calls += "compile ${options.accelerator.wireName}"
        PlusOne(calls)
    }
    private val around =
        SessionContext(
            engine,
            ModelStore(folder, storeBytes),
            facts = { mapOf("runtime" to "9.9.9") },
            thermal = { "none" },
            doing = { shown += it },
            memory = memory,
        )

    /** The answers' headers and payloads, and how the session ended. */
    fun hold(vararg requests: ByteArray): Pair<List<Pair<Header, List<Payload>>>, End> {
        val output = ByteArrayOutputStream()
        val input = ByteArrayInputStream(requests.fold(byteArrayOf()) { whole, request -> whole + request })
        val end = Session(input, output, around).serve()
        val reader = FrameReader(ByteArrayInputStream(output.toByteArray()))
        val answers = generateSequence { reader.header()?.let { it to it.payloads.map { reader.payload() } } }.toList()
        return answers to end
    }

    /** The one answer's `reason`. */
    fun refusal(request: ByteArray): String = hold(request).first.single().first.fields.getString("reason")
}
