package dev.litertharness.protocol

import java.io.File
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue
import org.json.JSONArray
import org.json.JSONObject

class ModelStoreTest {
    private val folder = temporaryFolder()
    private val store = ModelStore(folder, 100)

    private fun put(data: ByteArray, digest: String = sha256(data)): File =
        store.path(digest).also { path -> store.put(path, data.size.toLong()) { it.write(data) } }

    @Test
    fun `a model has the name of its digest and the bytes that came`() {
        val path = put(byteArrayOf(1, 2, 3))
        assertEquals("${sha256(byteArrayOf(1, 2, 3))}.tflite", path.name)
        assertContentEquals(byteArrayOf(1, 2, 3), path.readBytes())
        assertTrue(store.touch(path))
    }

    @Test
    fun `bytes with another digest leave nothing`() {
        val refusal = assertFailsWith<Refusal> { put(byteArrayOf(1), sha256(byteArrayOf(2))) }
        assertEquals("the model's bytes do not have the announced sha256", refusal.message)
        assertTrue(folder.list().orEmpty().isEmpty())
        assertFalse(store.touch(store.path(sha256(byteArrayOf(2)))))
    }

    @Test
    fun `a model over the limit is refused`() {
        val refusal = assertFailsWith<Refusal> { put(ByteArray(101)) }
        assertEquals("the model has 101 bytes, the device keeps at most 100", refusal.message)
    }

    @Test
    fun `the model not used for longest makes room`() {
        val paths = List(3) { put(ByteArray(30) { _ -> it.toByte() }) }
        paths.forEachIndexed { i, path -> path.setLastModified(1000L * (i + 1)) }
        store.touch(paths[0])
        put(ByteArray(40))
        assertEquals(listOf(true, false, true), paths.map(File::exists))
    }

    @Test
    fun `on a full disk what was not used for longest makes room, where that is enough`() {
        var disk = 50L
        val root =
            object : File(folder.path) {
                override fun getUsableSpace() = disk - listFiles().orEmpty().sumOf { it.length() }
            }
        val full = ModelStore(root, 100)
        fun put(data: ByteArray) =
            full.path(sha256(data)).also { path -> full.put(path, data.size.toLong()) { it.write(data) } }
        val paths = List(2) { put(ByteArray(20) { _ -> it.toByte() }) }
        paths.forEachIndexed { i, path -> path.setLastModified(1000L * (i + 1)) }
        val third = put(ByteArray(51)) // more than there would be if all the rest went: it is tried all the same
        assertEquals(listOf(true, true, true), (paths + third).map(File::exists))
        third.delete()
        val fourth = put(ByteArray(30))
        assertEquals(listOf(false, true, true), (paths + fourth).map(File::exists))
        fourth.setLastModified(3000)
        disk = 40 // as where a file that goes is in use, so that its bytes are free later
        put(ByteArray(15))
        assertEquals(listOf(false, false, false), (paths + fourth).map(File::exists))
    }

    private val input = floats("x", 1f, 2f)

    private fun kept(change: JSONObject.() -> Unit = {}): Kept {
        val entry = kept(input, change)
        return Kept(FrameReader.announcement(entry), entry.getString("sha256"))
    }

    @Test
    fun `an input is read as it came`() {
        put(input.data)
        val read = store.read(kept()) ?: error("it is not there")
        assertContentEquals(input.data, read.data)
        assertEquals(listOf(input.name, input.dtype, input.shape), listOf(read.name, read.dtype, read.shape))
    }

    @Test
    fun `an input that is not there, or no longer as it came, is none, and its file goes`() {
        assertEquals(null, store.read(kept()))
        for (damaged in listOf(input.data.copyOf(5), ByteArray(8), byteArrayOf(), ByteArray(9))) {
            val path = put(input.data).apply { writeBytes(damaged) }
            assertEquals(null, store.read(kept()))
            assertFalse(path.exists())
        }
        store.path(sha256(input.data)).mkdir()
        assertEquals(null, store.read(kept()))
    }

    @Test
    fun `a whole input that is announced as something else is refused and stays`() {
        val path = put(input.data)
        val lies =
            listOf<JSONObject.() -> Unit>(
                { put("shape", JSONArray(listOf(1))).put("bytes", 4) },
                { put("shape", JSONArray(listOf(1 shl 28))).put("bytes", 1 shl 30) },
                { put("crc32", 7) },
            )
        for (lie in lies) {
            val refusal = assertFailsWith<Refusal> { store.read(kept(lie)) }
            assertTrue(refusal.message.orEmpty().startsWith("input 'x' is announced with "), refusal.message)
            assertEquals(REJECTED, refusal.kind)
            assertTrue(path.exists())
        }
    }

    @Test
    fun `what is read stays longer than what was not used`() {
        val path = put(input.data).apply { setLastModified(1000) }
        val other = put(ByteArray(30)).apply { setLastModified(2000) }
        store.read(kept())
        put(ByteArray(70))
        assertEquals(listOf(true, false), listOf(path, other).map(File::exists))
    }

    @Test
    fun `a folder that cannot be written is a refusal that says so`() {
        val file = File(folder, "file").apply { writeText("in the way") }
        val blocked = ModelStore(file, 100)
        val path = blocked.path(sha256(byteArrayOf(1)))
        val refusal = assertFailsWith<Refusal> { blocked.put(path, 1) { it.write(1) } }
        assertTrue(refusal.message.orEmpty().startsWith("the model cannot be stored ("), refusal.message)
    }
}
