"""What the parts of the comparison with cryoDRGN share: data with truth, commands of both programs, reading what they write."""
