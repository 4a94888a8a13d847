#include "cli/conversation.h"
#include "cli/memory_budget.h"
#include "cli/open_chat_template.h"
#include "engine/generate.h"
#include "text/plain_marks.h"
#include "text/reply_tokens.h"
#include "text/text_stream.h"

namespace moiety::cli {
namespace {

using engine::Generated;

class LocalConversation : public Conversation {
 public:
  explicit LocalConversation(ChatArguments& arguments)
      : Conversation(arguments),
        arguments_(arguments),
        sampling_(arguments.sampling.options()),
        template_(open_chat_template(arguments.model.model)),
        model_(arguments.model) {
    context_["add_generation_prompt"] = true;
    constexpr size_t kConversation = 8192;  // tokens that memory is kept for; a longer one may take more
    const size_t context = static_cast<size_t>(model_.file.spec().max_positions);
    const size_t conversation = std::min(context, std::max(kConversation, 2 * arguments.count));
    fit_memory(model_, arguments.model, {.sequences = {conversation}, .prompt = conversation});
    trace_ = arguments.trace.open(model_.file.spec(), trace::model_name(arguments.model.model));
  }

  ChatAnswer answer(const Show& show) override {
    const text::PlainMarked prompt = render();
    const bool with_tools = context_.contains("tools") && !context_["tools"].empty();
    const text::ReplyFormat format = text::reply_format(template_.source(with_tools), prompt.text);
    const std::vector<int32_t> ids = model_.need_tokenizer().encode(prompt.text, false, prompt.plain);
    engine::GenerateOptions options{.max_new_tokens = arguments_.count, .sampling = sampling_, .kv = model_.kv, .trace = trace_};
    options.stop_tokens = text::stop_tokens(model_.file.spec().eos_tokens, template_, format, *model_.tokenizer);

    ChatAnswer answer;
    text::ReplyParser parser(format);
    text::TextStream stream(*model_.tokenizer, false);
    const auto pass_on = [&](const std::vector<text::ReplyPart>& parts) {
      for (const text::ReplyPart& part : parts) {
        answer.reply.add(part);
        show(part);
      }
    };
    const Generated result = engine::generate(model_.transformer, ids, options, [&](int32_t token) {
      if (text::is_shown(token, format, *model_.tokenizer)) pass_on(parser.push(stream.push(token)));
      return stopped == 0;
    }, &cache_);
    pass_on(parser.push(stream.finish()));
    pass_on(parser.finish());
    answer.reply.trim();
    remember(answer.reply, format.channels ? "thinking" : "reasoning_content");

    answer.finish_reason = result.stop == Generated::Stop::Caller      ? "cancelled"
                           : result.stop != Generated::Stop::StopToken ? "length"
                           : answer.reply.tool_calls.empty()           ? "stop"
                                                                       : "tool_calls";
    if (result.stop_token >= 0) answer.stop_token = model_.tokenizer->token_bytes(result.stop_token);
    answer.prompt_tokens = ids.size();
    answer.cached_tokens = result.reused_tokens;
    answer.completion_tokens = result.tokens.size();
    return answer;
  }

 private:
  // What people said stays text, though it spells a special token.
  text::PlainMarked render() {
    OrderedJson context = context_;
    context["messages"] = messages_;
    const jinja::DateTime now = arguments_.now ? jinja::parse_date_time(*arguments_.now) : jinja::current_date_time();
    const text::PlainMarks marks(model_.need_tokenizer(), text::make_mark());
    return marks.take(template_.render(jinja::Context::parse(to_text(marks.put(context)), "the conversation"), now));
  }

  const ChatArguments& arguments_;
  engine::SamplingOptions sampling_;
  text::ChatTemplate template_;
  OpenModel model_;
  engine::PromptCache cache_;
  trace::TraceRecorder* trace_ = nullptr;  // each answer is a sequence: what was computed for it
};

}  // namespace

std::unique_ptr<Conversation> local_conversation(ChatArguments& arguments) {
  return std::make_unique<LocalConversation>(arguments);
}

}  // namespace moiety::cli
