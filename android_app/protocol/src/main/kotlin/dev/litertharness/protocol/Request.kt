package dev.litertharness.protocol

import org.json.JSONArray
import org.json.JSONObject

/** A closed choice under the name that the wire has for it. */
interface Choice {
    val wireName: String
}

enum class Accelerator(override val wireName: String) : Choice {
    CPU("cpu"),
    GPU("gpu"),
    NPU("npu"),
}

enum class Precision(override val wireName: String) : Choice {
    DEFAULT("default"),
    FP16("fp16"),
    FP32("fp32"),
    FP16_WITH_FP32_ACCUMULATION("fp16-fp32acc"),
}

enum class Backend(override val wireName: String) : Choice {
    DEFAULT("default"),
    OPENCL("opencl"),
    OPENGL("opengl"),
}

enum class Storage(override val wireName: String) : Choice {
    DEFAULT("default"),
    BUFFER("buffer"),
    TEXTURE_2D("texture-2d"),
}

enum class Priority(override val wireName: String) : Choice {
    DEFAULT("default"),
    LOW("low"),
    NORMAL("normal"),
    HIGH("high"),
}

/** Who runs what the accelerator does not take: nobody, so that the model is refused, or the CPU. */
enum class Fallback(override val wireName: String) : Choice {
    NONE("none"),
    CPU("cpu"),
}

/**
 * How a model is compiled. [threads] 0 lets the runtime choose; [backend], [storage], [priority] and [fallback] are the
 * GPU's.
 */
data class Options(
    val accelerator: Accelerator,
    val precision: Precision = Precision.DEFAULT,
    val threads: Int = 0,
    val backend: Backend = Backend.DEFAULT,
    val storage: Storage = Storage.DEFAULT,
    val priority: Priority = Priority.DEFAULT,
    val fallback: Fallback = Fallback.NONE,
) {
    companion object {
        private val needed = setOf("accelerator", "precision", "threads")
        private val known = needed + setOf("backend", "storage", "priority", "fallback")

        /** Checks a request's `options`. Throws [Refusal]. */
        fun of(value: Any?): Options {
            val json = value as? JSONObject
            val keys = json?.keys()?.asSequence()?.toSet().orEmpty()
            if (json == null || !keys.containsAll(needed) || !known.containsAll(keys)) {
                throw Refusal("the options lack accelerator, precision or threads, or hold more")
            }
            val accelerator = json.opt("accelerator") as? String
            val precision = choice<Precision>(json.opt("precision"))
            if (accelerator == null || precision == null) {
                throw Refusal("accelerator is a word, precision one of ${names<Precision>()}")
            }
            val threads = integer(json.opt("threads"))
            if (threads == null || threads !in 0..1024) {
                throw Refusal("${quoted(json.opt("threads"))} is no number of threads")
            }
            val options =
                Options(
                    choice<Accelerator>(accelerator) ?: throw Refusal("this device has no accelerator '$accelerator'"),
                    precision,
                    threads.toInt(),
                    gpuChoice<Backend>(json, "backend") ?: Backend.DEFAULT,
                    gpuChoice<Storage>(json, "storage") ?: Storage.DEFAULT,
                    gpuChoice<Priority>(json, "priority") ?: Priority.DEFAULT,
                    gpuChoice<Fallback>(json, "fallback") ?: Fallback.NONE,
                )
            return options.apply { check() }
        }

        private inline fun <reified T> gpuChoice(json: JSONObject, key: String): T? where T : Enum<T>, T : Choice {
            if (!json.has(key)) return null
            return choice<T>(json.opt(key)) ?: throw Refusal("$key is one of ${names<T>()}")
        }

        private inline fun <reified T> choice(value: Any?): T? where T : Enum<T>, T : Choice =
            enumValues<T>().firstOrNull { it.wireName == value }

        private inline fun <reified T> names(): String where T : Enum<T>, T : Choice =
            enumValues<T>().joinToString { it.wireName }
    }

    private fun check() {
        if (accelerator == Accelerator.CPU && precision != Precision.DEFAULT && precision != Precision.FP32) {
            throw Refusal("the CPU computes in single precision, not ${precision.wireName}")
        }
        if (accelerator != Accelerator.GPU && this != Options(accelerator, precision, threads)) {
            throw Refusal("back end, storage, priority and fallback are the GPU's options")
        }
    }
}

/** An output that is wanted, and its position in the runtime's order. */
data class Wanted(val name: String, val position: Int)

/** A `run` request whose fields have the right types and sane values. */
data class RunRequest(
    val options: Options,
    val outputs: List<Wanted>,
    val warmup: Int,
    val iterations: Int,
    val final: Boolean,
    /** Whether float32 outputs may come as float16 where that has every value of them. */
    val narrow: Boolean = false,
    /** For each input the stored one, or null for the next payload; null where all are payloads. */
    val inputs: List<Kept?>? = null,
) {
    companion object {
        /** Checks a header's fields. Throws [Refusal]. */
        fun of(fields: JSONObject): RunRequest {
            val options = Options.of(fields.opt("options"))
            val names = fields.opt("outputs") as? JSONArray
            val positions = fields.opt("positions") as? JSONArray
            if (names == null || positions == null || names.length() != positions.length()) {
                throw Refusal("outputs and positions are two lists of one length")
            }
            val outputs =
                List(names.length()) { i ->
                    val name = names.opt(i) as? String
                    val position = count(positions.opt(i), 1 shl 16)
                    if (name == null || position == null) {
                        throw Refusal("outputs are names, positions are small numbers")
                    }
                    Wanted(name, position)
                }
            val warmup = count(fields.opt("warmup"), 1 shl 20)
            val iterations = count(fields.opt("iterations"), 1 shl 20)
            if (warmup == null || iterations == null) {
                throw Refusal("warmup and iterations are numbers below a million")
            }
            val distinct = outputs.distinctBy { it.name }.size == outputs.size
            if (!distinct || (outputs.isNotEmpty() && warmup + iterations == 0)) {
                throw Refusal("each output is wanted once, of a model that runs at least once")
            }
            val (final, narrow) = listOf("final", "narrow").map { fields.opt(it) == true }
            return RunRequest(options, outputs, warmup, iterations, final, narrow, inputs(fields.opt("inputs")))
        }

        private fun inputs(value: Any?): List<Kept?>? {
            if (value == null) return null
            val entries = value as? JSONArray
            if (entries == null || entries.length() > MAX_PAYLOADS) {
                throw Refusal("inputs is a list of at most $MAX_PAYLOADS entries")
            }
            return List(entries.length()) { i -> if (entries.isNull(i)) null else kept(entries.opt(i)) }
        }

        private fun kept(entry: Any?): Kept {
            val announced =
                try {
                    FrameReader.announcement(entry)
                } catch (error: WireException) {
                    throw Refusal(error.message.orEmpty())
                }
            return Kept(announced, ModelStore.digest((entry as JSONObject).opt("sha256")))
        }

        private fun count(value: Any?, limit: Int): Int? = integer(value)?.takeIf { it in 0..limit }?.toInt()
    }
}
