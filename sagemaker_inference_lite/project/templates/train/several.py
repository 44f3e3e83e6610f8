if __name__ == "__main__":
    for name, load in (("iris", load_iris), ("wine", load_wine)):
        directory = Path("models", name)
        directory.mkdir(parents=True, exist_ok=True)
        features, kinds = load(return_X_y=True)
        train(features[:, :4], kinds, directory / "@FILE@")
        print(f"{directory / '@FILE@'} is written")
