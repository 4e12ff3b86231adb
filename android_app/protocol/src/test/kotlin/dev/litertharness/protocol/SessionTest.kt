package dev.litertharness.protocol

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Files
import java.nio.file.Path
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertIs
import kotlin.test.assertTrue
import org.json.JSONArray
import org.json.JSONObject

class SessionTest {
    private val data = "a model".toByteArray()
    private val put = frame("put", mapOf("sha256" to sha256(data)), listOf(model(*data)))

    private fun run(vararg inputs: Payload, change: (JSONObject) -> Unit = {}, id: Long = 1): ByteArray {
        val fields =
            JSONObject()
                .put("sha256", sha256(data))
                .put("options", JSONObject().put("accelerator", "cpu").put("precision", "default").put("threads", 0))
                .put("outputs", JSONArray(listOf("y")))
                .put("positions", JSONArray(listOf(0)))
                .put("warmup", 0)
                .put("iterations", 1)
                .put("final", false)
        change(fields)
        return frame("run", fields.keys().asSequence().associateWith { fields.get(it) }, inputs.toList(), id)
    }

    @Test
    fun `a run gives its outputs, then its end`() {
        val (answers, end) = Conversation().hold(put, run(floats("x", 1f, 2f), id = 7))
        assertEquals(listOf("put", "output", "completed"), answers.map { it.first.type })
        assertEquals(listOf(1L, 7L, 7L), answers.map { it.first.id })
        val output = answers[1].second.single()
        assertContentEquals(floats("y", 2f, 3f).data, output.data)
        assertEquals(listOf("y", DType.FLOAT32, listOf(2L)), listOf(output.name, output.dtype, output.shape))
        val fields = answers[2].first.fields
        assertEquals(1, fields.getJSONArray("samples").length())
        assertEquals(listOf<Any>(true, true, "none"), listOf("compiled", "full", "thermal").map(fields::get))
        assertEquals(End.Closed("the host closed the connection"), end)
    }

    @Test
    fun `outputs that float16 has come as that where it was asked for, the others as they are`() {
        for ((narrow, value, dtype) in
            listOf(
                Triple(true, 1f, DType.FLOAT16),
                Triple(false, 1f, DType.FLOAT32),
                Triple(true, 4096.5f, DType.FLOAT32),
            )) {
            val asked = run(floats("x", 0f, value), change = { it.put("narrow", narrow) })
            val (answers, _) = Conversation().hold(put, asked)
            assertEquals(dtype, answers[1].second.single().dtype)
        }
    }

    private val x = floats("x", 1f, 2f)
    private val putInput =
        frame("put", mapOf("sha256" to sha256(x.data)), listOf(Payload("input", DType.UINT8, listOf(8), x.data)))

    private fun named(vararg entries: Any): (JSONObject) -> Unit = { it.put("inputs", JSONArray(entries.toList())) }

    @Test
    fun `it says that runs may name their inputs`() {
        val (answers, _) = Conversation().hold(frame("hello", mapOf("protocol" to 1)))
        assertEquals(INPUTS_BY_DIGEST, answers.single().first.fields.getJSONArray("abilities").getString(0))
    }

    @Test
    fun `an input that was put once is as one that comes, in every run that names it`() {
        val sent = Conversation().hold(put, run(x)).first
        val again = run(change = named(kept(x)), id = 2)
        val (answers, _) = Conversation().hold(put, putInput, again, again)
        assertEquals(listOf("put", "put", "output", "completed", "output", "completed"), answers.map { it.first.type })
        for (at in listOf(2, 4)) assertContentEquals(sent[1].second.single().data, answers[at].second.single().data)
    }

    @Test
    fun `an input outlives the session`() {
        val folder = temporaryFolder()
        Conversation(folder).hold(put, putInput)
        val has = frame("has", mapOf("sha256" to sha256(x.data)))
        val (answers, _) = Conversation(folder).hold(has, run(change = named(kept(x))))
        assertEquals(true, answers[0].first.fields.get("present"))
        assertEquals(listOf("has", "output", "completed"), answers.map { it.first.type })
    }

    @Test
    fun `named inputs and payloads keep their order`() {
        val seen = mutableListOf<Pair<String, Float>>()
        val engine = Engine { _, _ ->
            object : Compiled by PlusOne(mutableListOf()) {
                override fun prepare(inputs: List<Payload>): Feed {
                    for (input in inputs) {
                        val values = ByteBuffer.wrap(input.data).order(ByteOrder.LITTLE_ENDIAN)
                        seen += input.name to values.getFloat(0)
                    }
                    return Feed {}
                }
            }
        }
        val around = SessionContext(engine, ModelStore(temporaryFolder(), 1 shl 20), { emptyMap() })
        val asked = run(floats("a", 7f), floats("b", 8f), change = named(JSONObject.NULL, kept(x), JSONObject.NULL))
        Session(ByteArrayInputStream(put + putInput + asked), ByteArrayOutputStream(), around).serve()
        assertEquals(listOf("a" to 7f, "x" to 1f, "b" to 8f), seen)
    }

    @Test
    fun `an input that is not here is missing before anything is compiled, and the same run with it works`() {
        val talk = Conversation()
        val (answers, _) = talk.hold(put, run(change = named(kept(x))), run(x))
        assertEquals(listOf("put", "failed", "output", "completed"), answers.map { it.first.type })
        assertEquals("missing", answers[1].first.fields.getString("kind"))
        assertEquals("input 'x' is not here any more", answers[1].first.fields.getString("reason"))
        assertEquals("compile cpu", talk.calls.first())
    }

    @Test
    fun `runs whose named inputs are wrong are rejected, and the next one works`() {
        val path = kept(x) { put("sha256", "../../../etc/passwd") }
        val many = "1 payloads came for 0 inputs that are not named"
        for ((wrong, why) in
            listOf(
                run(change = named(path)) to "'../../../etc/passwd' is not a sha256",
                run(x, change = named(kept(x))) to many,
                run(change = named(JSONObject.NULL)) to "0 payloads came for 1 inputs that are not named",
                run(change = named(kept(x) { put("bytes", 4).put("shape", JSONArray(listOf(1))) })) to
                    "input 'x' is announced with 4 bytes",
            )) {
            val (answers, _) = Conversation().hold(put, putInput, wrong, run(change = named(kept(x))))
            assertEquals(listOf("put", "put", "failed", "output", "completed"), answers.map { it.first.type })
            assertEquals("rejected", answers[2].first.fields.getString("kind"))
            val reason = answers[2].first.fields.getString("reason")
            assertTrue(reason.startsWith(why), reason)
        }
    }

    @Test
    fun `named inputs count for what the app takes into memory`() {
        val both = run(x, change = named(kept(x), JSONObject.NULL))
        val (answers, _) = Conversation(memory = 15).hold(put, putInput, both)
        assertEquals("the inputs have 16 bytes, the app takes at most 15", answers[2].first.fields.getString("reason"))
    }

    @Test
    fun `an input that has no room is told as one`() {
        val (answers, _) = Conversation(storeBytes = 7).hold(put, putInput)
        assertEquals("the input has 8 bytes, the device keeps at most 7", answers[1].first.fields.getString("reason"))
    }

    @Test
    fun `warm-up runs are not sampled, and only the last run is sent`() {
        val talk = Conversation()
        val five = run(floats("x", 1f), change = { it.put("warmup", 2).put("iterations", 3) })
        val (answers, _) = talk.hold(put, five)
        assertEquals(3, answers.last().first.fields.getJSONArray("samples").length())
        assertEquals(1, answers.count { it.first.type == "output" })
        val calls = List(5) { listOf("write", "run", "read 0") }.flatten()
        assertEquals(listOf("compile cpu") + calls + "close", talk.calls)
    }

    @Test
    fun `the same model under the same options is compiled once`() {
        val talk = Conversation()
        val other = run(floats("x", 1f), change = { it.getJSONObject("options").put("threads", 2) })
        talk.hold(put, run(floats("x", 1f)), run(floats("x", 2f)), other)
        val compiles = talk.calls.filter { it.startsWith("compile") || it == "close" }
        assertEquals(listOf("compile cpu", "close", "compile cpu", "close"), compiles)
    }

    @Test
    fun `a final run frees each output once it is sent, and the model after that, even when it fails`() {
        val talk = Conversation()
        val (answers, _) =
            talk.hold(
                put,
                run(
                    floats("x", 1f),
                    change = {
                        it.put("final", true)
                        it.put("outputs", JSONArray(listOf("y", "z"))).put("positions", JSONArray(listOf(0, 1)))
                    },
                ),
                run(floats("x", 1f)),
            )
        assertEquals(listOf("put", "output", "failed", "output", "completed"), answers.map { it.first.type })
        val first = "compile cpu, write, run, read 0, release 0, read 1, close"
        assertEquals("$first, compile cpu, write, run, read 0, close", talk.calls.joinToString())
    }

    @Test
    fun `inputs that were refused are passed over, and the next request is read`() {
        val hello = frame("hello", mapOf("protocol" to 1), id = 9)
        val wrong = run(floats("x", 1f, 2f), change = { it.put("warmup", -1) })
        for (refused in listOf(wrong, frame("x", payloads = listOf(model(1, 2))))) {
            val (answers, _) = Conversation().hold(refused, hello)
            assertEquals(listOf("failed", "hello"), answers.map { it.first.type })
        }
    }

    @Test
    fun `inputs over what the app takes are refused before they are read`() {
        val talk = Conversation(memory = 7)
        val (answers, _) = talk.hold(put, run(floats("x", 1f, 2f)), run(floats("x", 1f)))
        assertEquals("the inputs have 8 bytes, the app takes at most 7", answers[1].first.fields.getString("reason"))
        assertEquals(listOf("put", "failed", "output", "completed"), answers.map { it.first.type })
    }

    @Test
    fun `a job that only compiles brings no inputs`() {
        val change = { fields: JSONObject ->
            fields.put("outputs", JSONArray()).put("positions", JSONArray()).put("iterations", 0)
            Unit
        }
        val talk = Conversation()
        val (answers, _) = talk.hold(put, run(change = change))
        assertEquals(listOf("put", "completed"), answers.map { it.first.type })
        assertEquals(listOf("compile cpu", "close"), talk.calls)
    }

    @Test
    fun `what is done is shown, and that nothing is`() {
        val talk = Conversation()
        talk.hold(put, run(floats("x", 1f)))
        val name = sha256(data).take(12)
        val expected = listOf("receiving a model", null, "compiling $name on the cpu", "running $name on the cpu", null)
        assertEquals(expected, talk.shown.toList())
    }

    @Test
    fun `bye ends the app, the end of the stream only the connection`() {
        assertEquals(End.Bye, Conversation().hold(frame("bye")).second)
        assertIs<End.Closed>(Conversation().hold().second)
    }

    @Test
    fun `what an engine throws is an answer, and the session goes on`() {
        val errors = listOf(OutOfMemoryError("heap"), UnsatisfiedLinkError("x86"))
        val failures = listOf(Refusal("no"), IllegalStateException("gone")) + errors
        val loading = "the runtime cannot be loaded on this device (x86)"
        val expected = listOf("no", "gone", "the app has no memory for this (heap)", loading)
        for ((failure, reason) in failures.zip(expected)) {
            val folder = temporaryFolder()
            val around = SessionContext({ _, _ -> throw failure }, ModelStore(folder, 1 shl 20), { emptyMap() })
            val output = java.io.ByteArrayOutputStream()
            val requests = put + run(floats("x", 1f)) + frame("hello", mapOf("protocol" to 1))
            Session(java.io.ByteArrayInputStream(requests), output, around).serve()
            val reader = FrameReader(java.io.ByteArrayInputStream(output.toByteArray()))
            val answers = generateSequence { reader.header() }.toList()
            assertEquals(listOf("put", "failed", "hello"), answers.map { it.type })
            assertEquals(reason, answers[1].fields.getString("reason"))
        }
    }

    @Test
    fun `a connection that breaks while a model comes leaves no part of it`() {
        val talk = Conversation()
        val (answers, end) = talk.hold(put.copyOf(put.size - 1))
        assertEquals(0, answers.size)
        assertEquals(End.Closed("the other side closed the connection"), end)
        assertTrue(talk.folder.list().orEmpty().isEmpty())
    }

    @Test
    fun `a disk that fills up while a model comes is an answer, and the next request is read`() {
        val talk = Conversation(storeBytes = 1L shl 23)
        val large = ByteArray(3 shl 20) { it.toByte() }
        // What is written to /dev/full fails as on a full disk.
        Files.createSymbolicLink(File(talk.folder, "${sha256(large)}.part").toPath(), Path.of("/dev/full"))
        val request = frame("put", mapOf("sha256" to sha256(large)), listOf(model(*large)))
        val (answers, _) = talk.hold(request, frame("hello", mapOf("protocol" to 1)), request)
        assertEquals(listOf("failed", "hello", "put"), answers.map { it.first.type })
        val reason = answers[0].first.fields.getString("reason")
        assertEquals("the model cannot be stored (No space left on device)", reason)
    }
}
