#include "text/normalize.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <chrono>
#include <cstdlib>

#include "text/test_support.h"

namespace moiety::text {
namespace {

using spec::NormalForm;

constexpr NormalForm kForms[] = {NormalForm::Nfc, NormalForm::Nfd, NormalForm::Nfkc,
                                 NormalForm::Nfkd};

TEST(Normalize, ComposesAndDecomposes) {
  EXPECT_EQ(normalize("e\u0301a", NormalForm::Nfc), "\u00e9a");
  EXPECT_EQ(normalize("\u00e9a", NormalForm::Nfd), "e\u0301a");
  EXPECT_EQ(normalize("\ufb01\u2460", NormalForm::Nfc), "\ufb01\u2460");
  EXPECT_EQ(normalize("\ufb01\u2460", NormalForm::Nfkc), "fi1");
  EXPECT_EQ(normalize("\u1100\u1161\u11a8", NormalForm::Nfc), "\uac01");
  EXPECT_EQ(normalize("\uac01", NormalForm::Nfd), "\u1100\u1161\u11a8");
}

TEST(Normalize, OrdersMarksByCombiningClass) {
  EXPECT_EQ(normalize("q\u0307\u0323", NormalForm::Nfc), "q\u0323\u0307");
  EXPECT_EQ(normalize("a\u0307\u0323", NormalForm::Nfc), "\u1ea1\u0307");
}

TEST(Normalize, AgreesWithUtf8procOnTheWholeText) {
  constexpr int kOptions[] = {UTF8PROC_COMPOSE, UTF8PROC_DECOMPOSE,
                              UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                              UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const std::string text = random_text(seed, 20);
    for (size_t form = 0; form < 4; ++form) {
      utf8proc_uint8_t* expected = nullptr;
      const auto size =
          utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &expected,
                       static_cast<utf8proc_option_t>(UTF8PROC_STABLE | kOptions[form]));
      ASSERT_GE(size, 0);
      EXPECT_EQ(normalize(text, kForms[form]),
                std::string(reinterpret_cast<char*>(expected), static_cast<size_t>(size)))
          << text;
      std::free(expected);
    }
  }
}

TEST(Normalize, WhatNeedsNoNormalisingStays) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const std::string text = random_text(seed, 4);
    for (const NormalForm form : kForms) {
      if (may_need_normalizing(text, form)) continue;
      EXPECT_EQ(normalize(text, form), text);
    }
  }
}

TEST(Normalize, AMegabyteOfDisorderedMarksTakesNoQuadraticTime) {
  std::string text = "a";
  while (text.size() < 1'000'000) text += "\u0301\u0323";
  const auto start = std::chrono::steady_clock::now();
  normalize(text, NormalForm::Nfc);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace moiety::text
