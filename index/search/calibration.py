"""Scales cosines so that those of different embedders can be compared.

Some embedders give unrelated texts cosines of .0, some of .7. A cosine is therefore expressed in standard deviations
above those of questions that have nothing to do with the corpus.
"""

from typing import NamedTuple

from index.types import Vectors

# About all kinds of things, in the way people ask; none is likely to be the subject of a corpus.
QUESTIONS = (
    "What is the weather like tomorrow?",
    "How do I cook rice?",
    "Who wrote this book?",
    "When does the shop open?",
    "Where can I park my car?",
    "How many people live in the city?",
    "What is the price of a ticket?",
    "Which medicine helps against a headache?",
    "How do I return a product?",
    "What does the contract say about notice periods?",
    "How does photosynthesis work?",
    "Who was the first emperor of Rome?",
    "How do I reset my password?",
    "What is the speed of light?",
    "Which team leads the league?",
    "How do I apply for a loan?",
    "What are the ingredients of the cake?",
    "When is the next meeting?",
    "How do I train a dog?",
    "What is the meaning of this word?",
    "How is the salary calculated?",
    "Which animals live in the desert?",
    "How do I install the program?",
    "What causes earthquakes?",
    "Who is responsible for safety?",
    "How do I write a cover letter?",
    "What is the difference between the two methods?",
    "How long is the warranty?",
    "Which language is spoken in Peru?",
    "How do I clean the filter?",
    "What were the results of the experiment?",
    "How do I play this chord on the guitar?",
    "What is the temperature of the oven?",
    "How many days of holiday do I have?",
    "Which paint is used for wood?",
    "Where was the treaty signed?",
    "How do I connect the printer?",
    "What is the length of the bridge?",
    "How does the heart pump blood?",
    "Which tax form do I need?",
    "What should I wear to a wedding?",
    "How do I plan a trip with children?",
    "What is the molecular weight of water?",
    "Who directed the film?",
    "How do I grow roses?",
    "What happens if I miss a payment?",
    "How does the engine start?",
    "Which exercises strengthen the back?",
)
_MIN_SPREAD = 0.01  # cosine; less is rounding


class NullDistribution(NamedTuple):
    """Mean and standard deviation of the cosines of `QUESTIONS` to the passages of a search."""

    mean: float
    spread: float

    @classmethod
    def of(cls, questions: Vectors, passages: Vectors) -> "NullDistribution":
        cosines = questions @ passages.T
        return cls(float(cosines.mean()), max(float(cosines.std()), _MIN_SPREAD))

    def z_score(self, cosine: float) -> float:
        """Return how many standard deviations a cosine is above the mean."""
        return (cosine - self.mean) / self.spread
