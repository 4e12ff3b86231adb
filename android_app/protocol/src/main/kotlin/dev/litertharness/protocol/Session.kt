package dev.litertharness.protocol

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream

/** What a session needs from its surroundings. */
class SessionContext(
    val engine: Engine,
    val store: ModelStore,
    /** What the device says of itself, anew for each `hello`. */
    val facts: () -> Map<String, Any?>,
    /** The thermal status after a run, for `completed`. */
    val thermal: () -> String = { "" },
    /** Told in one line what is done; null when nothing is. */
    val doing: (String?) -> Unit = {},
    /** The most bytes of inputs that are taken into memory. */
    val memory: Long = Runtime.getRuntime().maxMemory() / 3,
    /** Told the id of each `run` just before its last answer: what the log says by then is all of that run. */
    val answering: (Long) -> Unit = {},
)

/** How a session ended. */
sealed interface End {
    /** The host is done with the app. */
    data object Bye : End

    /** The connection is gone or of no more use; the next one may come. */
    data class Closed(val reason: String) : End
}

/** Answers one connection's requests in order, as `harness/devices/worker.py` does; keeps the last compiled model. */
class Session(
    input: InputStream,
    output: OutputStream,
    private val around: SessionContext,
    patience: Patience = Patience {},
) {
    private val reader = FrameReader(input, patience)
    private val writer = FrameWriter(output)
    private var key: Pair<File, Options>? = null
    private var compiled: Compiled? = null

    /** The session loop: until `bye`, the end of the stream, or a broken rule. */
    fun serve(): End {
        try {
            while (true) {
                val header = reader.header() ?: return End.Closed("the host closed the connection")
                if (header.type == "bye") return End.Bye
                answer(header)
            }
        } catch (error: IOException) {
            return End.Closed(error.message ?: error.javaClass.simpleName)
        } finally {
            forget()
        }
    }

    private fun answer(header: Header) {
        try {
            when (header.type) {
                "hello" -> hello(header)
                "has" -> writer.send("has", header.id, mapOf("present" to around.store.touch(path(header))))
                "put" -> put(header)
                "run" -> run(header)
                else -> throw Refusal("unknown request '${header.type}'")
            }
        } catch (refusal: Refusal) {
            refuse(header, refusal.message.orEmpty(), refusal.kind)
        } catch (error: OutOfMemoryError) {
            forget()
            refuse(header, "the app has no memory for this (${error.message})")
        } catch (error: RuntimeException) {
            refuse(header, error.message ?: error.javaClass.simpleName) // what the runtime's bindings throw
        } catch (error: LinkageError) {
            refuse(header, "the runtime cannot be loaded on this device (${error.message})")
        } finally {
            around.doing(null)
        }
    }

    private fun refuse(header: Header, reason: String, kind: String = REJECTED) {
        around.answering(header.id)
        writer.send("failed", header.id, mapOf("kind" to kind, "reason" to reason))
    }

    private fun hello(header: Header) {
        val asked = header.fields.opt("protocol")
        if (integer(asked) != PROTOCOL.toLong()) {
            throw Refusal("protocol ${quoted(asked)} is asked for, this worker speaks $PROTOCOL")
        }
        val fields = mapOf("protocol" to PROTOCOL, "facts" to around.facts(), "abilities" to listOf(INPUTS_BY_DIGEST))
        writer.send("hello", header.id, fields)
    }

    private fun path(header: Header): File = around.store.path(header.fields.opt("sha256"))

    private fun put(header: Header) {
        val place = path(header)
        // A frame with anything else than a model, or an input, has none: its digest is that of nothing.
        val announced = header.payloads.singleOrNull()?.takeIf { it.name == "model" || it.name == "input" }
        val what = announced?.name ?: "model"
        around.doing(if (what == "input") "receiving an input" else "receiving a model")
        around.store.put(place, announced?.bytes ?: 0, what) { if (announced != null) reader.payload(it) }
        writer.send("put", header.id)
    }

    private fun run(header: Header) {
        val request = RunRequest.of(header.fields)
        val model = path(header)
        val places = request.inputs ?: header.payloads.map { null }
        val coming = places.count { it == null }
        if (coming != header.payloads.size) {
            throw Refusal("${header.payloads.size} payloads came for $coming inputs that are not named")
        }
        val total = (header.payloads + places.mapNotNull { it?.announced }).sumOf { it.bytes }
        if (total > around.memory) {
            throw Refusal("the inputs have $total bytes, the app takes at most ${around.memory}")
        }
        val inputs = places.map { if (it == null) reader.payload() else stored(it) }
        try {
            iterate(header, request, model, inputs)
        } finally {
            if (request.final) forget() // whatever became of it: its outputs may be gone
        }
    }

    private fun stored(input: Kept): Payload =
        around.store.read(input) ?: throw Refusal("input '${input.announced.name}' is not here any more", MISSING)

    private fun iterate(header: Header, request: RunRequest, model: File, inputs: List<Payload>) {
        val what = "${model.name.take(12)} on the ${request.options.accelerator.wireName}"
        around.doing("compiling $what")
        val started = System.nanoTime()
        val fresh = compile(model, request.options)
        val compileNanos = if (fresh) System.nanoTime() - started else 0
        val engine = compiled ?: error("compile left no model")
        around.doing("running $what")
        val samples = mutableListOf<LongArray>()
        val last = request.warmup + request.iterations - 1
        // A job that only compiles brings no inputs.
        val feed = if (last < 0) Feed {} else engine.prepare(inputs)
        for (i in 0..last) {
            val begin = System.nanoTime()
            feed.write()
            val written = System.nanoTime()
            engine.run()
            val ran = System.nanoTime()
            var readNanos = 0L
            for (wanted in request.outputs) {
                val before = System.nanoTime()
                val result = engine.read(wanted)
                readNanos += System.nanoTime() - before
                if (i == last) {
                    val sent = if (request.narrow) result.narrowed() else result
                    writer.send("output", header.id, payloads = listOf(sent), more = true)
                    if (request.final) engine.release(wanted)
                }
            }
            if (i >= request.warmup) samples += longArrayOf(written - begin, ran - written, readNanos)
        }
        val fields =
            mapOf(
                "samples" to samples,
                "compile_ns" to compileNanos,
                "compiled" to fresh,
                "full" to engine.full,
                "thermal" to around.thermal(),
            )
        around.answering(header.id)
        writer.send("completed", header.id, fields)
    }

    private fun compile(model: File, options: Options): Boolean {
        if (key == model to options) return false
        if (!around.store.touch(model)) throw Refusal("model ${model.name.take(12)} was not sent")
        forget() // first: two compiled models at once would double the peak
        compiled = around.engine.compile(model, options)
        key = model to options
        return true
    }

    private fun forget() {
        compiled?.close()
        compiled = null
        key = null
    }
}
