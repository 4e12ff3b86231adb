package dev.litertharness.protocol

import java.io.File
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue

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
    fun `a folder that cannot be written is a refusal that says so`() {
        val file = File(folder, "file").apply { writeText("in the way") }
        val blocked = ModelStore(file, 100)
        val path = blocked.path(sha256(byteArrayOf(1)))
        val refusal = assertFailsWith<Refusal> { blocked.put(path, 1) { it.write(1) } }
        assertTrue(refusal.message.orEmpty().startsWith("the model cannot be stored ("), refusal.message)
    }
}
