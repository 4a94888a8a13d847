#include "server/after_reasoning.h"

#include <string>
#include <utility>
#include <vector>

namespace moiety::server {
namespace {

class AfterMarkers final : public engine::TokenConstraint {
 public:
  // The markers come one after the other, whatever stands between them.
  AfterMarkers(std::unique_ptr<engine::TokenConstraint> then, std::vector<std::string> markers, const text::Tokenizer& tokenizer)
      : then_(std::move(then)), markers_(std::move(markers)), tokenizer_(&tokenizer) {}

  bool allows(int32_t token) override { return !begun() || then_->allows(token); }
  void mask(std::span<float> logits_V) override {
    if (begun()) then_->mask(logits_V);
  }
  void accept(int32_t token) override {
    if (begun()) return then_->accept(token);
    text_ += tokenizer_->token_bytes(token);
    while (!begun()) {
      const std::string& marker = markers_[passed_];
      const size_t at = text_.find(marker);
      if (at == text_.npos) {
        if (text_.size() > marker.size()) text_.erase(0, text_.size() - marker.size());
        return;
      }
      text_.erase(0, at + marker.size());
      ++passed_;
    }
  }

 private:
  bool begun() const { return passed_ == markers_.size(); }

  std::unique_ptr<engine::TokenConstraint> then_;
  std::vector<std::string> markers_;
  size_t passed_ = 0;
  const text::Tokenizer* tokenizer_;  // outlives the request
  std::string text_;
};

}  // namespace

std::unique_ptr<engine::TokenConstraint> after_reasoning(std::unique_ptr<engine::TokenConstraint> constraint, const OutputRule& rule,
                                                         const text::ReplyFormat& format, const text::Tokenizer& tokenizer) {
  std::vector<std::string> markers;
  if (format.channels && rule.kind != OutputRule::Kind::Calls) markers = {"<|channel|>final", "<|message|>"};
  if (!format.channels && format.begins_in_reasoning) markers = {format.think_close};
  if (markers.empty()) return constraint;
  return std::make_unique<AfterMarkers>(std::move(constraint), std::move(markers), tokenizer);
}

}  // namespace moiety::server
