package dev.litertharness.protocol

import kotlin.test.Test
import kotlin.test.assertEquals

class StatusLineTest {
    private val tasks = ArrayDeque<() -> Unit>()
    private val drawn = mutableListOf<String>()
    private val status = StatusLine(tasks::addLast, drawn::add)

    private fun pass() {
        while (tasks.isNotEmpty()) tasks.removeFirst()()
    }

    @Test
    fun `a line is drawn once, and not again while it stays`() {
        repeat(3) {
            status.show("waiting")
            pass()
        }
        assertEquals(listOf("waiting"), drawn)
    }

    @Test
    fun `nothing is planned where nothing changes`() {
        status.show("waiting")
        pass()
        status.show("waiting")
        assertEquals(0, tasks.size)
    }

    @Test
    fun `a thousand changes before the screen has its turn are one drawing, of the last line`() {
        repeat(1000) { status.show("job $it") }
        assertEquals(1, tasks.size)
        pass()
        assertEquals(listOf("job 999"), drawn)
    }

    @Test
    fun `what is back at the line that is there by then is not drawn`() {
        status.show("running")
        pass()
        status.show("waiting")
        status.show("running")
        pass()
        assertEquals(listOf("running"), drawn)
    }
}
